"""What is believed of a loss over (LR, batch size) before the first run: a bank of basins drawn from physics.

Each member is a surface of excess loss with its minimum near 0, of shape only: its scale and floor are fitted. It has

- an LR slice that is an asymmetric basin (`lrscale.laws.lr_slice.basin`) with the exponents of published sweeps,
- a best LR that rises with the batch size as a power between 0.2 and 1 up to a knee and is flat above it (McCandlish et
  al. 2018, arXiv:1812.06162, and the Adam forms after it),
- a batch size that is best at equal examples, inside the box or beyond either end,
- on some members a wall, where training diverges a factor of 3 to 50 above the best LR,
- a ceiling: how bad a hopeless run is.

The spreads are judgement, and wide on purpose. They are in natural logarithms of LR and batch size, so that units do
not matter. Only the share about the middle of the box was chosen by replaying published sweeps (docs/methods.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.surface.shape_prior import BATCH_EXPONENTS, BATCH_WEIGHT, HIGH_EXPONENT, LOW_EXPONENT, SHAPE_SD
from lrscale.study.planner.space import FloatArray, Space

LR_SLACK = 0.7
"""How far outside the box the best LR may lie: a factor of 2."""
BATCH_SLACK = 2.0
"""How far outside the box the best batch size may lie: a factor of 7."""
KNEE_SLACK = 1.5
BATCH_WEIGHT_SD = 1.0
"""Log standard deviation of the curvature along the batch size against that along the LR."""
PATH_EXPONENTS = (0.2, 1.0)
"""Range of the exponent of the best LR below the knee: from hardly any rule to the linear one."""
WALLED = 0.6
"""Share of members on which training diverges."""
WALL = (1.0, 4.0)
WALL_SOFTNESS = 0.25
CEILING = (3.0, 300.0)
CENTRED, CENTRED_SD = 0.5, 0.25
"""Share of members whose optimum lies about the middle of the box, and its standard deviation as a share of the box: a
box is drawn around a guess."""
BELIEVED = 0.8
"""Share of members that follow a belief; the others doubt it, so that a wrong one costs runs and not the answer."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """A best setting expected from elsewhere: a range test, a noise scale, a published law.

    Parameters
    ----------
    lr : float or None, optional
        Expected best LR at `batch_size`. Default None: nothing is believed of it.
    lr_factor : float, optional
        One standard deviation of it, as a factor. Default 2.
    batch_size : float or None, optional
        Where `lr` was found; with `best_batch_factor` also the batch size expected to be best.
    best_batch_factor : float or None, optional
        One standard deviation of the best batch size, as a factor. Default None: nothing is believed of it.

    Raises
    ------
    LrscaleError
        For an LR or batch size that is not positive, or a factor below 1.
    """

    lr: float | None = None
    lr_factor: float = 2.0
    batch_size: float | None = None
    best_batch_factor: float | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise LrscaleError(f"a belief has {name} {value}", hint="use a positive number")
        for name in ("lr_factor", "best_batch_factor"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < math.inf:
                raise LrscaleError(f"a belief has {name} {value}", hint="use a factor of at least 1")

    @property
    def is_held(self) -> bool:
        """Whether anything is believed."""
        return self.lr is not None or (self.batch_size is not None and self.best_batch_factor is not None)


@final
class BasinBank:
    """Surfaces drawn from the prior; `surfaces` gives their excess losses at any settings.

    Parameters
    ----------
    space : Space
        Its box centres the prior.
    rng : numpy.random.Generator
        Draws the members.
    members : int
        How many.
    belief : Belief
        What is expected from elsewhere.
    """

    def __init__(self, space: Space, rng: np.random.Generator, members: int, belief: Belief) -> None:
        (lo_lr, lo_batch), (hi_lr, hi_batch) = space.log_box
        self._middle = (lo_batch + hi_batch) / 2

        def log_normal(median: float, sd: float) -> FloatArray:
            return np.exp(rng.normal(np.log(median), sd, members))

        self._slope = rng.uniform(*PATH_EXPONENTS, members)
        self._knee = rng.uniform(lo_batch - KNEE_SLACK, hi_batch + KNEE_SLACK, members)
        self._best_lr = _position(lo_lr, hi_lr, LR_SLACK, members, rng)
        self._low = log_normal(LOW_EXPONENT, SHAPE_SD)
        self._high = log_normal(HIGH_EXPONENT, SHAPE_SD)
        self._best_batch = _position(lo_batch, hi_batch, BATCH_SLACK, members, rng)
        self._weight = log_normal(BATCH_WEIGHT, BATCH_WEIGHT_SD)
        self._batch_low = log_normal(BATCH_EXPONENTS[0], SHAPE_SD)
        self._batch_high = log_normal(BATCH_EXPONENTS[1], SHAPE_SD)
        self._wall = rng.uniform(*WALL, members)
        self._steep = np.where(rng.random(members) < WALLED, log_normal(np.e, 1.0), 0.0)
        self._ceiling = CEILING[0] * (CEILING[1] / CEILING[0]) ** rng.random(members)
        self._follow(belief, rng)

    def _follow(self, belief: Belief, rng: np.random.Generator) -> None:
        members = len(self._slope)
        follows = rng.random(members) < BELIEVED
        spread = rng.standard_normal((2, members))
        if belief.lr is not None:
            there = self._middle if belief.batch_size is None else np.log(belief.batch_size)
            believed = np.log(belief.lr) + np.log(belief.lr_factor) * spread[0] - self._path(np.array([there]))[:, 0]
            self._best_lr = np.where(follows, believed, self._best_lr)
        if belief.batch_size is not None and belief.best_batch_factor is not None:
            believed = np.log(belief.batch_size) + np.log(belief.best_batch_factor) * spread[1]
            self._best_batch = np.where(follows, believed, self._best_batch)

    def _path(self, log_batch: FloatArray) -> FloatArray:
        # ln of the best LR at each batch size, against the middle of the box.
        def saturating(at: FloatArray) -> FloatArray:
            rise: FloatArray = -self._slope[:, None] * np.logaddexp(0, -(at[None] - self._knee[:, None]))
            return rise

        path: FloatArray = saturating(log_batch) - saturating(np.array([self._middle]))
        return path

    def surfaces(self, logs: FloatArray) -> FloatArray:
        """Return the excess loss of each member at settings of given logarithms, shape (members, n)."""
        log_lr, log_batch = logs[:, 0], logs[:, 1]
        away = np.clip(log_lr[None] - self._best_lr[:, None] - self._path(log_batch), -12, 12)
        off = np.clip(log_batch[None] - self._best_batch[:, None], -12, 12)
        excess = basin(away, self._low[:, None], self._high[:, None])
        excess += self._weight[:, None] * basin(off, self._batch_low[:, None], self._batch_high[:, None])
        wall = np.logaddexp(0, (away - self._wall[:, None]) / WALL_SOFTNESS)
        excess += self._steep[:, None] * wall
        ceiling = self._ceiling[:, None]
        bounded: FloatArray = -ceiling * np.expm1(-excess / ceiling)
        return bounded


def _position(lo: float, hi: float, slack: float, members: int, rng: np.random.Generator) -> FloatArray:
    centred = rng.normal((lo + hi) / 2, CENTRED_SD * (hi - lo), members)
    anywhere = rng.uniform(lo - slack, hi + slack, members)
    return np.where(rng.random(members) < CENTRED, centred, anywhere)
