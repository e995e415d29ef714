"""The multi-power law of Luo et al.: the gain of a drop follows a power law of the LR spent since."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lrscale.laws.annealing.schedule_law import SCHEDULE_LAWS, AbstractScheduleLaw, Timeline
from lrscale.laws.base import FloatArray, Parameter
from lrscale.laws.separable import Inputs

# Fraction of the peak: at an LR of zero nothing moves, and no power of it may be taken.
_LR_FLOOR = 1e-9

_ALPHA = Parameter(name="alpha", lower=0.05, upper=2.0, unit="", meaning="exponent of the sum of LRs")
_BETA = Parameter(name="beta", lower=0.05, upper=3.0, unit="", meaning="exponent of the gain of a drop")
_GAMMA = Parameter(name="gamma", lower=0.0, upper=1.0, unit="", meaning="how much faster small LRs gain")


@final
@SCHEDULE_LAWS.register("multi_power")
@dataclass(frozen=True, kw_only=True, eq=False)
class MultiPower(AbstractScheduleLaw):
    """``loss = L0 + A (S1 + S_W)^-alpha - B sum_k (lr_(k-1) - lr_k) G(lr_k^-gamma S_k)``.

    ``G(x) = 1 - (1 + C x)^-beta``. S1 + S_W is the sum of the LRs up to the step with the warm-up, S_k the sum since
    the drop at step k. Rises of the warm-up are not counted as negative drops; the authors' code counts them, which
    moves L0 and little else. Drops of one depth leave beta, gamma and C on a ridge.

    References
    ----------
    .. [1] Luo, Wen, Hu, Sun, et al. "A multi-power law for loss curve prediction across learning rate schedules."
       arXiv:2503.12811 (2025). Published fits: alpha 0.43 to 0.51, beta 0.58 to 0.60, gamma 0.64 to 0.66, C 2.1.
    """

    name: ClassVar[str] = "multi_power"
    formula: ClassVar[str] = "loss = L0 + A S1^-alpha - B sum_k (lr_(k-1) - lr_k) (1 - (1 + C lr_k^-gamma S_k)^-beta)"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="L0", lower=0.0, upper=math.inf, unit="loss", meaning="constant term", linear=True),
        Parameter(name="A", lower=0.0, upper=math.inf, unit="loss", meaning="progress left", linear=True),
        _ALPHA,
        Parameter(name="B", lower=0.0, upper=math.inf, unit="loss", meaning="gain of a drop to zero", linear=True),
        _BETA,
        _GAMMA,
        # The published C is 3e3 in this unit for runs of 24k steps.
        Parameter(
            name="log_C",
            lower=0.0,
            upper=math.log(1e7),
            unit="log 1 / longest run at peak",
            meaning="how fast a drop works",
        ),
    )
    reported: ClassVar[tuple[Parameter, ...]] = (
        parameters[0],
        Parameter(
            name="A", lower=0.0, upper=math.inf, unit="loss LR^alpha", meaning="amplitude of the progress", linear=True
        ),
        _ALPHA,
        Parameter(
            name="B", lower=0.0, upper=math.inf, unit="loss / LR", meaning="amplitude of the annealing", linear=True
        ),
        _BETA,
        _GAMMA,
        Parameter(name="C", lower=0.0, upper=math.inf, unit="LR^(gamma-1)", meaning="how fast a drop works"),
    )

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        rates = np.log((30.0, 300.0, 3000.0, 30000.0))
        return np.array(list(itertools.product((0.25, 0.5, 0.9), (0.3, 0.6, 1.2), (0.3, 0.65), rates)))

    @cached_property
    def _pairs(self) -> _Pairs:
        return _Pairs.of(self.timelines)

    @override
    def annealing(self, shape: FloatArray) -> FloatArray:
        """Return the sum of the gains of all drops in units of the peak LR."""
        pairs = self._pairs
        beta, gamma, log_rate = shape[:, 1:2], shape[:, 2:3], shape[:, 3:4]
        # In place: this array, of a row for each drop before each point, is the largest of a fit.
        terms = pairs.log_since - gamma * pairs.log_lr
        terms += log_rate
        np.exp(terms, out=terms)
        np.log1p(terms, out=terms)
        terms *= -beta
        np.expm1(terms, out=terms)
        terms *= -pairs.drop
        gain = np.zeros((len(shape), sum(one.points.size for one in self.timelines)))
        if pairs.first.size:
            gain[:, pairs.point] = np.add.reduceat(terms, pairs.first, axis=1)
        return gain

    @override
    def in_units(self, params: FloatArray) -> FloatArray:
        level, progress, alpha, gain, beta, gamma, log_rate = params.T
        progress = progress * (self.lr_unit * self.step_unit) ** alpha
        rate = np.exp(log_rate) / self.step_unit * self.lr_unit ** (gamma - 1)
        return np.stack([level, progress, alpha, gain / self.lr_unit, beta, gamma, rate], axis=1)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Every point with every drop before it, points in order."""

    log_since: FloatArray
    """ln of the sum of the LRs from the drop to the point, shape (pairs,)."""
    log_lr: FloatArray
    """ln of the LR after the drop."""
    drop: FloatArray
    first: NDArray[np.intp]
    """First pair of each point that has any."""
    point: NDArray[np.intp]
    """These points."""

    @classmethod
    def of(cls, timelines: tuple[Timeline, ...]) -> _Pairs:
        parts = []
        offset = 0
        for run in timelines:
            dropping = np.flatnonzero(run.drop)
            begin, spent = run.area[dropping - 1], run.area[dropping] - run.area[dropping - 1]
            length = run.length[dropping]
            steps = np.maximum(length / run.one_step, 1.0)
            # Drops of a block act as one at its middle; S_k counts from the step of the drop itself.
            origin = begin + spent * (steps - 1) / (2 * steps)
            lr = np.maximum(spent / length, _LR_FLOOR)
            point, drop = np.nonzero(dropping[None, :] <= run.points[:, None])
            since = np.maximum(run.area[run.points[point]] - origin[drop], 0.0)
            parts.append(np.stack([point + offset, since, lr[drop], run.drop[dropping][drop]]))
            offset += run.points.size
        row, since, lr, drop = np.concatenate(parts, axis=1)
        place = row.astype(np.intp)
        first = np.flatnonzero(np.diff(place, prepend=-1))
        # Where no LR was spent since the drop nothing has been gained, and exp(-inf) is 0.
        log_since = np.log(since, out=np.full(since.size, -np.inf), where=since > 0)
        return cls(log_since=log_since, log_lr=np.log(lr), drop=drop, first=first, point=place[first])
