"""The annealing law of Tissue et al.: progress by the sum of LRs, and a gain from every drop that fades in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.annealing.schedule_law import SCHEDULE_LAWS, AbstractScheduleLaw
from lrscale.laws.base import FloatArray, Parameter
from lrscale.laws.separable import Inputs

_ALPHA = Parameter(name="alpha", lower=0.05, upper=2.0, unit="", meaning="exponent of the sum of LRs")


@final
@SCHEDULE_LAWS.register("tissue")
@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue(AbstractScheduleLaw):
    """``loss = L0 + A S1^-alpha - C S2`` with ``S2 = sum of m_i``, ``m_i = lambda m_(i-1) + (lr_(i-1) - lr_i)``.

    S1 is the sum of the LRs up to the step. Each drop of the LR lowers the loss by C times the drop times
    ``(1 - lambda^n) / (1 - lambda)`` after n steps. The published lambda of 0.99 to 0.9999 belongs to runs of tens of
    thousands of steps; here its memory 1 / (1 - lambda) lies between 1/1000 and 1/2 of the longest run.

    Rises of the warm-up are not counted as negative drops, so L0 is a convention and no irreducible loss.

    References
    ----------
    .. [1] Tissue, Wang, Wang. "Scaling law with learning rate annealing." arXiv:2408.11029 (2024).
    """

    name: ClassVar[str] = "tissue"
    formula: ClassVar[str] = "loss = L0 + A S1^-alpha - C S2(lambda)"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="L0", lower=0.0, upper=math.inf, unit="loss", meaning="constant term", linear=True),
        Parameter(name="A", lower=0.0, upper=math.inf, unit="loss", meaning="progress left", linear=True),
        _ALPHA,
        Parameter(name="C", lower=0.0, upper=math.inf, unit="loss", meaning="gain of a drop to zero", linear=True),
        Parameter(
            name="log_memory",
            lower=math.log(1e-3),
            upper=math.log(0.5),
            unit="log fraction of the longest run",
            meaning="how long a drop takes to work",
        ),
    )
    reported: ClassVar[tuple[Parameter, ...]] = (
        parameters[0],
        Parameter(
            name="A", lower=0.0, upper=math.inf, unit="loss LR^alpha", meaning="amplitude of the progress", linear=True
        ),
        _ALPHA,
        Parameter(
            name="C", lower=0.0, upper=math.inf, unit="loss / LR", meaning="amplitude of the annealing", linear=True
        ),
        Parameter(name="lambda", lower=0.0, upper=1.0, unit="", meaning="share of the momentum kept in a step"),
    )

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        alphas, memories = (0.2, 0.4, 0.7, 1.1), np.log((0.003, 0.01, 0.03, 0.1, 0.3))
        return np.array([(alpha, memory) for alpha in alphas for memory in memories])

    @override
    def annealing(self, shape: FloatArray) -> FloatArray:
        """Return ``(1 - lambda) S2`` in units of the peak LR: 1 once a drop to zero has worked fully."""
        length = np.concatenate([one.length for one in self.timelines])
        drop = np.concatenate([one.drop for one in self.timelines])
        starts = np.cumsum([0] + [one.length.size for one in self.timelines])
        one_step = np.concatenate([np.full(one.length.size, one.one_step) for one in self.timelines])
        memory = np.exp(shape[:, 1:2])
        kept = np.exp(-length / memory)
        fade = np.exp(-one_step / memory)
        # Over a block of n steps with even drops d: m_b = lambda^n m_a + d (1 - lambda^n) / (1 - lambda).
        steps = np.where(length > 0, length / one_step, 1.0)
        momentum = -drop / steps * np.expm1(-length / memory) / -np.expm1(-one_step / memory)
        kept[:, starts[:-1]] = 0.0
        momentum = _accumulate(kept, momentum)
        # Summed over i, the recursion reads S2 = lambda (S2 - m) + all drops.
        total = np.concatenate([np.cumsum(one.drop) for one in self.timelines])
        gain = total - fade * momentum
        points = np.concatenate([one.points + start for one, start in zip(self.timelines, starts[:-1], strict=True)])
        value: FloatArray = gain[:, points]
        return value

    @override
    def in_units(self, params: FloatArray) -> FloatArray:
        level, progress, alpha, gain, log_memory = params.T
        forgotten = -np.expm1(-1 / (np.exp(log_memory) * self.step_unit))
        progress = progress * (self.lr_unit * self.step_unit) ** alpha
        return np.stack([level, progress, alpha, gain * forgotten / self.lr_unit, 1 - forgotten], axis=1)


def _accumulate(kept: FloatArray, added: FloatArray) -> FloatArray:
    """Return ``y_i = kept_i y_(i-1) + added_i`` along the last axis, by doubling: log2(n) vector operations."""
    factor, value = kept.copy(), added.copy()
    reach = 1
    while reach < value.shape[1]:
        value[:, reach:] = value[:, reach:] + factor[:, reach:] * value[:, :-reach]
        factor[:, reach:] = factor[:, reach:] * factor[:, :-reach]
        reach *= 2
    return value
