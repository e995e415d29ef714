"""Experiments, in the order in which a study runs them: each may use the findings of those before it."""

from lrscale.study.experiments.base import EXPERIMENTS as EXPERIMENTS
from lrscale.study.experiments.base import AbstractExperiment as AbstractExperiment
from lrscale.study.experiments.base import Context as Context
from lrscale.study.experiments.equivalence import Equivalence as Equivalence
from lrscale.study.experiments.memory import Memory as Memory
from lrscale.study.experiments.range_test import RangeTest as RangeTest
from lrscale.study.experiments.scaling import Scaling as Scaling
from lrscale.study.experiments.schedule_comparison import ScheduleComparison as ScheduleComparison
from lrscale.study.experiments.search import Search as Search

# isort: split
# Its searches begin where those above ended.
from lrscale.study.experiments.factors import Factors as Factors
from lrscale.study.experiments.forecast import Forecast as Forecast
from lrscale.study.experiments.growing_batch import GrowingBatch as GrowingBatch
from lrscale.study.experiments.horizons import Horizons as Horizons

# isort: split
# It combines the trials of those above.
from lrscale.study.experiments.noise_scale import NoiseScale as NoiseScale
from lrscale.study.experiments.throughput import Throughput as Throughput

# isort: split
# They set what they measure beside what those above have found, or judge it.
from lrscale.study.experiments.critical_batch import CriticalBatch as CriticalBatch
from lrscale.study.experiments.rules import Rules as Rules
