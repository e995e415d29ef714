"""The planner: which LR and batch size to train next, and which to name, from as few runs as possible."""

from lrscale.study.planner.outlook import Outlook as Outlook
from lrscale.study.planner.planner import Choice as Choice
from lrscale.study.planner.planner import Planner as Planner
from lrscale.study.planner.planner import make as make
from lrscale.study.planner.prior import Belief as Belief
from lrscale.study.planner.space import Space as Space
