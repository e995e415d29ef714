"""Optimizers that take the place of the module's own in a trial."""

from lrscale.training.optimizers.build import build_optimizer as build_optimizer
from lrscale.training.optimizers.replace import replace_optimizer as replace_optimizer
