"""Batch-size schedules: pure functions of position, one file each."""

from lrscale.batch_schedules.base import BATCH_SCHEDULES as BATCH_SCHEDULES
from lrscale.batch_schedules.base import AbstractBatchSchedule as AbstractBatchSchedule
from lrscale.batch_schedules.build import batch_schedule_label as batch_schedule_label
from lrscale.batch_schedules.build import build_batch_schedule as build_batch_schedule
from lrscale.batch_schedules.constant import Constant as Constant
from lrscale.batch_schedules.course import BatchCourse as BatchCourse
from lrscale.batch_schedules.course import GrownLR as GrownLR
from lrscale.batch_schedules.doubling import Doubling as Doubling
from lrscale.batch_schedules.instead_of_decay import InsteadOfDecay as InsteadOfDecay
from lrscale.batch_schedules.linear_ramp import LinearRamp as LinearRamp
from lrscale.batch_schedules.piecewise import Piecewise as Piecewise
