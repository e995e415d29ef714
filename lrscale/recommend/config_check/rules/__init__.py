"""Rules of a launch config; one file each."""

from lrscale.recommend.config_check.rules.base import RULES as RULES
from lrscale.recommend.config_check.rules.base import AbstractRule as AbstractRule
from lrscale.recommend.config_check.rules.base import Judgement as Judgement

# isort: split
# In the order in which they are read.
from lrscale.recommend.config_check.rules.stable_lr import StableLR as StableLR  # isort: skip
from lrscale.recommend.config_check.rules.equivalent_lr import EquivalentLR as EquivalentLR  # isort: skip
from lrscale.recommend.config_check.rules.measured_batch import MeasuredBatch as MeasuredBatch  # isort: skip
from lrscale.recommend.config_check.rules.critical_batch import CriticalBatch as CriticalBatch  # isort: skip
from lrscale.recommend.config_check.rules.warmup import WarmUp as WarmUp  # isort: skip
from lrscale.recommend.config_check.rules.schedule import Schedule as Schedule  # isort: skip
from lrscale.recommend.config_check.rules.horizon import Horizon as Horizon  # isort: skip
from lrscale.recommend.config_check.rules.companions import Companions as Companions  # isort: skip
from lrscale.recommend.config_check.rules.ema import EMADecay as EMADecay  # isort: skip
from lrscale.recommend.config_check.rules.layout import LayoutDivides as LayoutDivides  # isort: skip
from lrscale.recommend.config_check.rules.memory import FitsInMemory as FitsInMemory  # isort: skip
from lrscale.recommend.config_check.rules.optimizer import Optimizer as Optimizer  # isort: skip
from lrscale.recommend.config_check.rules.precision import Precision as Precision  # isort: skip
