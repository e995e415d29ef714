"""Launchers: where trials run."""

from lrscale.launch.base import LAUNCHERS as LAUNCHERS
from lrscale.launch.base import AbstractLauncher as AbstractLauncher
from lrscale.launch.base import LaunchSettings as LaunchSettings
from lrscale.launch.base import TrialRequest as TrialRequest
from lrscale.launch.local import LocalLauncher as LocalLauncher
from lrscale.launch.nodes.launcher import AllocationLauncher as AllocationLauncher
from lrscale.launch.progress import AbstractProgress as AbstractProgress
from lrscale.launch.progress import SilentProgress as SilentProgress
from lrscale.launch.ray import RayLauncher as RayLauncher
from lrscale.launch.slurm.launcher import SlurmLauncher as SlurmLauncher
