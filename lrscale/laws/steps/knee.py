"""The profile likelihood of the knee of a hyperbola in ln(steps), with censored runs as one-sided terms.

``ln S = a + ln(1 + exp(gamma (v - ln B)))`` with a = ln S_min and, for gamma 1, v = ln(E_min / S_min). For each v the
level a is solved for, so that one dimension is left; a grid over it shows every minimum and every open end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import chdtrc, log_ndtr, ndtri, stdtrit

from lrscale.laws.base import FloatArray
from lrscale.laws.optimal_lr.law_fit import Vertices, best_log_amplitude
from lrscale.laws.steps.steps_data import Points, StepsData

# Beyond this distance from the measured batch sizes the curve is straight in logarithms to 1e-6.
_REACH = 14.0
_FINE, _COARSE = 0.05, 0.25
_REFINEMENTS = 7
_ROUNDS = 60
# Relative change of the noise below which its search has arrived.
_SETTLED = 1e-5
# Noise below this is rounding.
LEAST_SD = 1e-9
# A stated noise that the residuals contradict at this level is not used.
_CONTRADICTED = 0.01


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How much a measured ln(steps) differs from the curve."""

    sd: float
    """Standard deviation of one run."""
    variance: float
    """Variance of a batch size about the curve times its number of runs; at least what replicates alone would give."""
    df: float
    """Degrees of freedom of `variance`; infinite when it was stated."""
    contradicted: bool = False
    """Whether a stated noise was too small for the residuals, and was left aside."""

    def quantile(self, confidence: float) -> float:
        """Return the two-sided quantile of Student's t."""
        upper = (1 + confidence) / 2
        return float(ndtri(upper) if math.isinf(self.df) else stdtrit(self.df, upper))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """The best hyperbola, and how much worse each other knee is."""

    place: float
    """Best v, the ln of the critical batch size."""
    level: float
    """Best a, the ln of S_min."""
    noise: Noise
    grid: FloatArray
    """Values of v, increasing, shape (m,)."""
    levels: FloatArray
    """Best a for each, shape (m,)."""
    signed: FloatArray
    """Signed root of the likelihood ratio in the unit of Student's t, not decreasing along the grid, shape (m,)."""

    def interval(self, confidence: float) -> tuple[float | None, float | None]:
        """Return the ends of the profile-likelihood interval of v; None where it is open."""
        reach = self.noise.quantile(confidence)
        lo = float(np.interp(-reach, self.signed, self.grid)) if self.signed[0] < -reach else None
        hi = float(np.interp(reach, self.signed, self.grid)) if self.signed[-1] > reach else None
        return lo, hi

    def at(self, t: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return v and a where the signed root is `t`; v is infinite beyond what the data can tell."""
        place = np.interp(t, self.signed, self.grid)
        level = np.interp(place, self.grid, self.levels)
        place = np.where(t < self.signed[0], -np.inf, np.where(t > self.signed[-1], np.inf, place))
        return place, level


def bend(log_batch: FloatArray, place: FloatArray, exponent: FloatArray | float = 1.0) -> FloatArray:
    """Return ``ln(1 + exp(gamma (v - ln B)))``, shape (m, n)."""
    value: FloatArray = np.logaddexp(0.0, np.reshape(exponent, (-1, 1)) * (place[:, None] - log_batch))
    return value


def places(points: Points, step: float = _FINE) -> FloatArray:
    """Return a grid of v from far below to far above the measured batch sizes."""
    low, high = float(points.log_batch.min()) - _REACH, float(points.log_batch.max()) + _REACH
    return np.linspace(low, high, math.ceil((high - low) / step) + 1)


def profile(points: Points, shape: FloatArray, sd: float) -> tuple[FloatArray, FloatArray]:
    """Return the best level of each row of shapes (m, n), and -2 sd^2 log likelihood, each of shape (m,).

    Without censored runs the second is the sum of squared residuals.

    References
    ----------
    .. [1] Tobin. "Estimation of Relationships for Limited Dependent Variables." Econometrica 26 (1958).
    """
    seen, count = points.side == 0, points.count
    if seen.all():
        gap = points.log_steps - shape
        level = gap @ count / count.sum()
        return level, points.within + (gap - level[:, None]) ** 2 @ count
    vertices = Vertices(batch=np.exp(points.log_batch), y=points.log_steps, variance=sd**2 / count, side=points.side)
    level = best_log_amplitude(shape, vertices)
    excess = level[:, None] + shape - points.log_steps
    one_sided = log_ndtr(points.side[~seen] * excess[:, ~seen] / sd)
    squares = points.within + excess[:, seen] ** 2 @ count[seen]
    return level, squares - 2 * sd**2 * np.sum(one_sided, axis=1)


def scatter(data: StepsData, fitted: FloatArray, sd: float) -> tuple[float, float]:
    """Return the expected sums of squares about a curve: of the runs, and of the batch sizes times their runs.

    A censored run enters with its expectation given its bound, less the variance that it does not inform about, so
    that a bound far from the curve adds nothing.
    """
    residual = data.log_steps - fitted
    cut = np.flatnonzero(~data.reached)
    expected, extra = residual.copy(), np.zeros_like(residual)
    if cut.size:
        # A run beyond its bound: residual = side * (truncated normal above side * bound).
        z = data.side[cut] * residual[cut] / sd
        hazard = np.exp(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - log_ndtr(-z))
        expected[cut] = data.side[cut] * sd * hazard
        extra[cut] = sd**2 * (1 + z * hazard - hazard**2)
    # E[r^2] - sd^2 for a censored run.
    by_run = float(np.sum(expected**2 + extra) - cut.size * sd**2)
    count = np.bincount(data.cell)
    mean = np.bincount(data.cell, expected) / count
    by_cell = count * mean**2 + np.bincount(data.cell, extra) / count
    all_cut = np.bincount(data.cell, data.reached) == 0
    by_cell[all_cut] = (np.bincount(data.cell, expected**2 + extra) / count - sd**2)[all_cut]
    return by_run, float(by_cell.sum())


def find_knee(data: StepsData, noise_sd: float | None = None) -> Knee:
    """Return the hyperbola of highest likelihood and its profile.

    The noise comes from the batch sizes about the curve, with as many degrees of freedom as they have beyond the two
    parameters: LRs are tuned anew at each batch size, so that its seeds share an error which they cannot show.
    """
    points, noise = data.merged(), _noise(data, noise_sd)
    grid = places(points)
    _, misfit = profile(points, bend(points.log_batch, grid), noise.sd)
    best, _, least = _refine(points, grid, misfit, noise.sd, _REFINEMENTS)
    grid = np.unique(np.append(grid, best))
    levels, misfit = profile(points, bend(points.log_batch, grid), noise.sd)
    here = int(np.searchsorted(grid, best))
    root = np.sqrt(np.maximum(misfit - least, 0.0) / noise.variance)
    root[here] = 0.0
    root[here:] = np.maximum.accumulate(root[here:])
    root[: here + 1] = np.maximum.accumulate(root[here::-1])[::-1]
    return Knee(
        place=best,
        level=float(levels[here]),
        noise=noise,
        grid=grid,
        levels=levels,
        signed=np.where(grid < best, -root, root),
    )


def best_curve(data: StepsData, sd: float, refinements: int = _REFINEMENTS) -> tuple[float, float, float]:
    """Return v and the level of highest likelihood, and its -2 sd^2 log likelihood.

    Each refinement makes the steps of v, which begin at 0.25, ten times smaller.
    """
    points = data.merged()
    grid = places(points, _COARSE)
    _, misfit = profile(points, bend(points.log_batch, grid), sd)
    return _refine(points, grid, misfit, sd, refinements)


def _refine(
    points: Points, grid: FloatArray, misfit: FloatArray, sd: float, refinements: int
) -> tuple[float, float, float]:
    """Return the v of least misfit near the best of the grid, its level and its misfit."""
    best, step = float(grid[np.argmin(misfit)]), float(grid[1] - grid[0])
    level, least = math.nan, math.inf
    for _ in range(refinements):
        near = np.clip(best + step * np.linspace(-1, 1, 21), grid[0], grid[-1])
        levels, misfit = profile(points, bend(points.log_batch, near), sd)
        chosen = int(np.argmin(misfit))
        best, level, least = float(near[chosen]), float(levels[chosen]), float(misfit[chosen])
        step /= 10
    return best, level, least


def _noise(data: StepsData, stated: float | None) -> Noise:
    df, run_df = data.n_reached_cells - 2, int(data.reached.sum()) - 2
    sd = stated
    if sd is None:
        # From the runs that reached the target alone: what one-sided terms are worth depends on the noise.
        _, _, least = best_curve(data.only(data.reached), 1.0)
        sd = math.sqrt(max(least / run_df, LEAST_SD**2))
    by_cell = 0.0
    for _ in range(_ROUNDS):
        place, level, _ = best_curve(data, sd)
        by_run, by_cell = scatter(data, level + bend(data.log_batch, np.array([place]))[0], sd)
        if stated is not None:
            break
        moved = math.sqrt(max(by_run / run_df, LEAST_SD**2))
        arrived = abs(moved - sd) <= _SETTLED * sd
        sd = moved
        if arrived:
            break
    if stated is None:
        return Noise(sd=sd, variance=max(by_cell / df, LEAST_SD**2), df=float(df))
    if chdtrc(df, by_cell / stated**2) >= _CONTRADICTED:
        return Noise(sd=stated, variance=stated**2, df=math.inf)
    own = _noise(data, None)
    return Noise(sd=own.sd, variance=own.variance, df=own.df, contradicted=True)
