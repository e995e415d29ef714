"""Engines of a search: who plans its trials."""

from lrscale.study.engines.base import ENGINES as ENGINES
from lrscale.study.engines.base import AbstractEngine as AbstractEngine
from lrscale.study.engines.base import engine_of as engine_of
from lrscale.study.engines.optuna import OptunaEngine as OptunaEngine
from lrscale.study.engines.planner import PlannerEngine as PlannerEngine
from lrscale.study.engines.ray import RayEngine as RayEngine
