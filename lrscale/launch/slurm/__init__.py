"""Trials in SLURM jobs: a queue of files in the study folder, jobs that serve it, and the driver that submits them."""

from lrscale.launch.slurm.overview import AtWork as AtWork
from lrscale.launch.slurm.overview import QueueOverview as QueueOverview
from lrscale.launch.slurm.overview import queue_overview as queue_overview
from lrscale.launch.slurm.worker import serve as serve
