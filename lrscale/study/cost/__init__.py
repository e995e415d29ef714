"""What a trial takes in examples and time, from what trials of the study took."""

from lrscale.study.cost.model import CostModel as CostModel
from lrscale.study.cost.trial_cost import Basis as Basis
from lrscale.study.cost.trial_cost import TrialCost as TrialCost
from lrscale.study.cost.trial_cost import weakest as weakest
