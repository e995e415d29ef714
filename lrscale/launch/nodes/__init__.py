"""Worker groups over several nodes: a leader that plans, and followers that start ranks for it on the other nodes."""

from lrscale.launch.nodes.allocation import WORKER_GROUPS as WORKER_GROUPS
from lrscale.launch.nodes.allocation import Allocation as Allocation
from lrscale.launch.nodes.allocation import detect as detect
from lrscale.launch.nodes.follower import follow as follow
from lrscale.launch.nodes.meeting import Gathering as Gathering
