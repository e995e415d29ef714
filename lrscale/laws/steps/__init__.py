"""Steps to a target loss against the batch size: the critical batch size, and time against examples."""

from lrscale.laws.separable import SEPARABLE_LAWS
from lrscale.laws.steps.crossing import Crossing as Crossing
from lrscale.laws.steps.crossing import steps_to_target as steps_to_target
from lrscale.laws.steps.hyperbola import FREE_STEPS_HYPERBOLA, STEPS_HYPERBOLA
from lrscale.laws.steps.pareto import Pareto as Pareto
from lrscale.laws.steps.pareto import ParetoPoint as ParetoPoint
from lrscale.laws.steps.pareto import pareto_front as pareto_front
from lrscale.laws.steps.steps_fit import fit_steps_to_target as fit_steps_to_target
from lrscale.laws.steps.steps_result import StepsFit as StepsFit
from lrscale.laws.steps.steps_result import TradeOff as TradeOff

for _law in (STEPS_HYPERBOLA, FREE_STEPS_HYPERBOLA):
    SEPARABLE_LAWS.register(_law.name)(_law)
