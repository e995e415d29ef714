"""Stoppers: rules by which a trial ends early, from what earlier trials had at the same validation."""

from lrscale.stoppers.base import STOPPERS as STOPPERS
from lrscale.stoppers.base import AbstractStopper as AbstractStopper
from lrscale.stoppers.base import Bound as Bound
from lrscale.stoppers.base import Candidate as Candidate
from lrscale.stoppers.base import Earlier as Earlier
from lrscale.stoppers.base import build_stopper as build_stopper
from lrscale.stoppers.hyperband import Hyperband as Hyperband
from lrscale.stoppers.median import Median as Median
from lrscale.stoppers.predicted import Predicted as Predicted
from lrscale.stoppers.replay import Course as Course
from lrscale.stoppers.replay import Replay as Replay
from lrscale.stoppers.replay import replay as replay
from lrscale.stoppers.share import expected_shares as expected_shares
from lrscale.stoppers.successive_halving import SuccessiveHalving as SuccessiveHalving
from lrscale.stoppers.survivors import Survivors as Survivors
from lrscale.stoppers.watch import Ended as Ended
from lrscale.stoppers.watch import LossWatch as LossWatch
from lrscale.stoppers.watch import stopper_settings as stopper_settings
