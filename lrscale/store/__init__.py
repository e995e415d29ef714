"""Trials on disk: written once, never changed."""

from lrscale.store.record import STATUSES as STATUSES
from lrscale.store.record import STOPPER as STOPPER
from lrscale.store.record import Status as Status
from lrscale.store.record import TrialRecord as TrialRecord
from lrscale.store.spec import BatchScheduleSpec as BatchScheduleSpec
from lrscale.store.spec import BranchPoint as BranchPoint
from lrscale.store.spec import ScheduleSpec as ScheduleSpec
from lrscale.store.spec import StartState as StartState
from lrscale.store.spec import TrialSpec as TrialSpec
from lrscale.store.study_folder import StudyFolder as StudyFolder
from lrscale.store.trajectory import Trajectory as Trajectory
from lrscale.store.view import StudyView as StudyView
from lrscale.store.view import Trial as Trial
