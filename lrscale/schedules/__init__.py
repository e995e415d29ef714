"""Learning-rate schedules: pure functions of position, one file each."""

from lrscale.schedules.base import SCHEDULES as SCHEDULES
from lrscale.schedules.base import AbstractSchedule as AbstractSchedule
from lrscale.schedules.build import build_schedule as build_schedule
from lrscale.schedules.build import schedule_label as schedule_label
from lrscale.schedules.constant import Constant as Constant
from lrscale.schedules.cosine import Cosine as Cosine
from lrscale.schedules.cosine_restarts import CosineRestarts as CosineRestarts
from lrscale.schedules.exponential import Exponential as Exponential
from lrscale.schedules.groups import group_base_lr as group_base_lr
from lrscale.schedules.groups import momentum_setting as momentum_setting
from lrscale.schedules.groups import scaled_lrs as scaled_lrs
from lrscale.schedules.inverse import Inverse as Inverse
from lrscale.schedules.inverse_sqrt import InverseSqrt as InverseSqrt
from lrscale.schedules.linear import Linear as Linear
from lrscale.schedules.multi_step import MultiStep as MultiStep
from lrscale.schedules.one_cycle import OneCycle as OneCycle
from lrscale.schedules.piecewise import Piecewise as Piecewise
from lrscale.schedules.polynomial import Polynomial as Polynomial
from lrscale.schedules.power import Power as Power
from lrscale.schedules.ramp import Ramp as Ramp
from lrscale.schedules.step import Step as Step
from lrscale.schedules.triangular import Triangular as Triangular
from lrscale.schedules.warmup import Warmup as Warmup
from lrscale.schedules.wsd import WSD as WSD
from lrscale.schedules.wsd_s import WSDS as WSDS
