"""The basins of the prior fitted to the runs under one size of residual and one level of noise.

Losses are compared as ``z = ln(1 + (loss - lowest) / s)``, so that how much worse a bad run is hardly matters. A member
f of the bank predicts ``floor + amplitude f``; what is left is a Gaussian process in z over (ln LR, ln batch) of
standard deviation kappa, and independent noise sigma of a run. Floor and amplitude are the least squares of each
member, linearised in z, and the amplitude is tried above and below that. The prior of the floor is flat, that of the
amplitude flat in its logarithm.

With noise, s is a multiple of sigma: below it the logarithm would turn noise into shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from lrscale.study.planner.space import FloatArray

IntArray = NDArray[np.int_]

Residual = tuple[float, float]
"""Kappa, and the length scales as a multiple of `LENGTHS`."""
NARROW: tuple[Residual, ...] = ((0.1, 1.0), (0.25, 1.0), (0.6, 1.0))
"""Residuals that are averaged over to choose the next run: basins are believed, which finds the best in fewer runs."""
WIDE: tuple[Residual, ...] = ((0.6, 2.0), (1.2, 2.0))
"""Residuals that are averaged over for intervals. On 17 whole surrogate grids (LCBench), where basins fit worse, the
likeliest residual has twice the length scales and a kappa of 1.2, then 0.6."""
NOISES = (0.0, 0.1, 0.3, 0.8, 2.0)
"""Standard deviations of a run that are averaged over, in units of the scale of the losses."""
SCALE_SHARE = 0.3
"""Scale of the losses against the median excess of the runs."""
NOISE_SCALES = 8.0
"""The least s in standard deviations of a run."""
LENGTHS = np.array([1.2, 1.8])
"""Length scales of the residual in ln LR and ln batch."""
OFFSET = 0.15
"""Variance of a residual that all runs share, against that of the process."""
NUGGET = 0.03
"""Independent residual in z near the minimum. It grows with the excess up to 1: how bad a bad run is tells little."""
AMPLITUDES = np.exp([-0.5, 0.0, 0.5])
SHORT_LIST = 500
"""Members that are looked at in z, the likeliest by least squares; past `MANY` runs fewer, which then tell members
apart the better, so that the time of a step is bounded."""
MANY = 20
LOWEST_RATIO = 0.02
DEEPEST = 0.5
"""How far below the lowest measured loss an estimate is taken to lie at most, in units of the scale: z is linear there
over no more than that."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Runs that have ended, at least one."""

    logs: FloatArray
    """Natural logarithms of LR and batch size, shape (n, 2)."""
    excess: FloatArray
    """Loss above the lowest measured one, shape (n,)."""
    sds: FloatArray
    """Standard deviation of what is estimated of it, beside its noise, shape (n,); 0 of a measured loss."""
    scale: float
    """Difference of losses that counts."""

    @classmethod
    def of(cls, logs: FloatArray, excess: FloatArray, sds: FloatArray) -> Runs:
        """Return runs with the scale of their losses."""
        positive = excess[excess > sds]
        scale = SCALE_SHARE * float(np.median(positive)) if positive.size else 1.0
        return cls(logs=logs, excess=np.maximum(excess, -DEEPEST * scale), sds=sds, scale=scale)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """Members fitted under one hypothesis."""

    member: IntArray
    """Rows of the bank, shape (m,)."""
    amplitude: FloatArray
    floor: FloatArray
    """Both of shape (m,), in units of the loss; the floor is relative to the lowest run."""
    residual: FloatArray
    """What is left at the runs, in z, shape (n, m)."""
    log_evidence: FloatArray
    """Log marginal likelihood of the losses, up to a constant of all hypotheses, shape (m,)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hypothesis:
    """A size of residual, a level of noise, and the covariance of the runs in z that follows."""

    kappa: float
    lengths: FloatArray
    """Length scales of the residual in ln LR and ln batch."""
    sigma: float
    """Standard deviation of a run at equal setting, in units of the loss."""
    scale: float
    """s."""
    runs: Runs
    whiten: FloatArray
    """Inverse of the lower Cholesky factor of that covariance, shape (n, n)."""

    @classmethod
    def of(cls, runs: Runs, residual: Residual, noise: float) -> Hypothesis:
        """Return the hypothesis for a residual and a noise in units of the scale of the losses."""
        kappa, lengths = residual[0], residual[1] * LENGTHS
        counts = runs.scale
        sigma = noise * counts
        scale = max(counts, NOISE_SCALES * sigma)
        nugget = np.minimum(NUGGET * (1 + runs.excess / scale), 1.0)
        near = scale + runs.excess
        independent = (sigma / near) ** 2 + (runs.sds / near) ** 2 + nugget**2
        factor = np.linalg.cholesky(kappa**2 * kernel(runs.logs, runs.logs, lengths) + np.diag(independent))
        whiten = solve_triangular(factor, np.eye(len(factor)), lower=True)
        return cls(kappa=kappa, lengths=lengths, sigma=sigma, scale=scale, runs=runs, whiten=whiten)

    def z(self, excess: FloatArray) -> FloatArray:
        """Return excess losses in z; far below the lowest run the logarithm is bounded."""
        z: FloatArray = np.log(np.maximum(1 + excess / self.scale, LOWEST_RATIO))
        return z

    def fit(self, surfaces: FloatArray) -> Fitted:
        """Fit members to the runs.

        Parameters
        ----------
        surfaces : array of float, shape (members, n)
            Members at the runs.
        """
        excess = self.runs.excess
        weigh = self.whiten / (self.scale + excess)
        one, loss, shape = weigh.sum(axis=1), weigh @ excess, weigh @ surfaces.T
        ones = one @ one
        loss_mean, shape_mean = one @ loss / ones, one @ shape / ones
        loss = loss - one * loss_mean
        shape = shape - np.outer(one, shape_mean)
        square = np.maximum((shape**2).sum(axis=0), 1e-12)
        amplitude = np.maximum(loss @ shape, 0.0) / square
        # The width of the amplitude's likelihood in its logarithm, where the prior is flat over about a unit.
        width = np.log(np.minimum(1 / (np.sqrt(square) * np.maximum(amplitude, 1e-12)), 1.0))
        linear = (amplitude**2 * square - loss @ loss) / 2 + width
        short = likeliest(linear, int(SHORT_LIST * min(1.0, MANY / excess.size)))
        short = short[amplitude[short] > 0]

        member = np.tile(short, len(AMPLITUDES))
        tried = np.outer(AMPLITUDES, amplitude[short]).ravel()
        floor = loss_mean - tried * shape_mean[member]
        residual = self.z(excess)[:, None] - self.z(floor + tried * surfaces[member].T)
        volume = np.log(np.diag(self.whiten)).sum() - np.log(self.scale + excess).sum() - np.log(ones) / 2
        log_evidence = volume + width[member] - ((self.whiten @ residual) ** 2).sum(axis=0) / 2
        return Fitted(member=member, amplitude=tried, floor=floor, residual=residual, log_evidence=log_evidence)

    def gain(self, logs: FloatArray) -> FloatArray:
        """Return the covariance of the residual at settings with the whitened runs, shape (settings, n)."""
        gain: FloatArray = self.kappa**2 * kernel(logs, self.runs.logs, self.lengths) @ self.whiten.T
        return gain


def hypotheses(runs: Runs, residuals: Sequence[Residual]) -> Iterator[Hypothesis]:
    """Yield every hypothesis that is averaged over."""
    for noise in NOISES:
        for residual in residuals:
            yield Hypothesis.of(runs, residual, noise)


def likeliest(log_likelihood: FloatArray, count: int) -> IntArray:
    """Return the places of the highest values, at most `count`.

    Two runs fit any basin. Which of equal ones are taken is drawn, and does not follow from rounding.
    """
    values = np.round(log_likelihood, 6)
    drawn = np.random.default_rng(0).permutation(values.size)
    among = np.arange(values.size)
    if values.size > count:
        among = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return among[np.lexsort((drawn[among], -values[among]))][:count]


def kernel(first: FloatArray, second: FloatArray, lengths: FloatArray = LENGTHS) -> FloatArray:
    """Return the Matern-5/2 covariance of unit variance between settings, with the offset that all share."""
    away = np.sqrt((((first[:, None] - second[None]) / lengths) ** 2).sum(axis=2)) * np.sqrt(5)
    covariance: FloatArray = (1 + away + away**2 / 3) * np.exp(-away) + OFFSET
    return covariance
