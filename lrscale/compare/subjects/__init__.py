"""What two studies are compared by; one file each."""

from lrscale.compare.subjects.base import SUBJECTS as SUBJECTS
from lrscale.compare.subjects.base import AbstractSubject as AbstractSubject

# isort: split
# In the order in which they are read.
from lrscale.compare.subjects.best_lr import BestLR as BestLR  # isort: skip
from lrscale.compare.subjects.loss import Loss as Loss  # isort: skip
from lrscale.compare.subjects.lr_growth import LRGrowth as LRGrowth  # isort: skip
from lrscale.compare.subjects.critical_batch import CriticalBatch as CriticalBatch  # isort: skip
from lrscale.compare.subjects.noise_scale import NoiseScale as NoiseScale  # isort: skip
from lrscale.compare.subjects.schedules import Schedules as Schedules  # isort: skip
from lrscale.compare.subjects.throughput import Throughput as Throughput  # isort: skip
