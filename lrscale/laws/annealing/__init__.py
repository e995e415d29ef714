"""Laws of the loss against the step that know the LR schedule.

Fit two or more schedules (`fit_loss_curves`), predict others; extrapolate a run at constant LR
(`extrapolate_constant`); rank schedule shapes and carry a tuned LR between them with nothing to fit (`convex_bound`).
"""

from lrscale.laws.annealing.constant_lr import Extrapolation as Extrapolation
from lrscale.laws.annealing.constant_lr import extrapolate_constant as extrapolate_constant
from lrscale.laws.annealing.convex_bound import ConvexBound as ConvexBound
from lrscale.laws.annealing.convex_bound import carried_base_lr as carried_base_lr
from lrscale.laws.annealing.convex_bound import convex_bound as convex_bound
from lrscale.laws.annealing.curve import Curve as Curve
from lrscale.laws.annealing.curve_law_fit import CurveLawFit as CurveLawFit
from lrscale.laws.annealing.curve_law_fit import HeldOut as HeldOut
from lrscale.laws.annealing.curve_law_fit import ScheduleGap as ScheduleGap
from lrscale.laws.annealing.loss_curves import fit_loss_curves as fit_loss_curves
from lrscale.laws.annealing.multi_power import MultiPower as MultiPower
from lrscale.laws.annealing.schedule_law import SCHEDULE_LAWS as SCHEDULE_LAWS
from lrscale.laws.annealing.schedule_law import AbstractScheduleLaw as AbstractScheduleLaw
from lrscale.laws.annealing.tissue import Tissue as Tissue
from lrscale.laws.annealing.trace import LRTrace as LRTrace
