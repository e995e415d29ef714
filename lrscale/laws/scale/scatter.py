"""Draws of an optimum's law and of the scatter of cells about it, from sums of squares whose distribution is known.

For observed cells ``y ~ N(law, variance + scatter^2)`` the sum of squares whose expectation the restricted likelihood
equates (Patterson and Thompson 1971) follows, at the true scatter, a chi-squared distribution to its first two moments
(Satterthwaite 1946). So a draw of that sum gives a draw of the scatter, and this one of the parameters (generalised
inference: Iyer, Wang, Mathew 2004). There is no prior, and where the variances of all cells are equal the intervals are
Student's t. Where the residuals are smaller than the cells' own variances allow, the variances are scaled down with
them, as Knapp and Hartung (2003) do: to cut the scatter off at zero instead makes intervals of six cells cover 98 %
instead of 95 %.

Cells of one cluster share a departure. The scatter within clusters follows from the squares about the law with a level
for each cluster, that between them from the squares of the sums of clusters.

References
----------
.. [1] Patterson, Thompson. "Recovery of inter-block information when block sizes are unequal." Biometrika 58 (1971).
.. [2] Satterthwaite. "An approximate distribution of estimates of variance components." Biometrics Bulletin 2 (1946).
.. [3] Iyer, Wang, Mathew. "Models and Confidence Intervals for True Values in Interlaboratory Trials." JASA 99 (2004).
.. [4] Knapp, Hartung. "Improved tests for a random effects meta-regression." Statistics in Medicine 22 (2003).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri, ndtri

from lrscale.laws.base import FloatArray
from lrscale.laws.resample import even_uniforms
from lrscale.laws.scale.optimum_law import AbstractOptimumLaw, PowerOptimum
from lrscale.laws.scale.tobit import Cells

SCATTERS = np.geomspace(0.003, 3.0, 49)
"""Standard deviations of cells about a law, in ln, among which one is looked for."""

_STEPS = 40
_SETTLED = 1e-10
_STIFF = 1e7


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scattered:
    """Draws of a law and of the scatter about it."""

    theta: FloatArray
    """Parameters at the medians of both scatters, (p,)."""
    scatter: float
    """Median of the standard deviation of a new cell about the law."""
    draws: FloatArray
    """(r, p)"""
    scatter_draws: FloatArray
    """(r,)"""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Noise:
    """The covariance of m candidates: a variance of each cell's own, and one that the cells of a cluster share."""

    own: FloatArray
    """(m, n)"""
    shared: FloatArray
    """(m,); infinite: every cluster has a level of its own."""
    member: FloatArray
    """1 where a cell belongs to a cluster, (n, clusters)."""

    def whiten(self, table: FloatArray) -> FloatArray:
        """Return rows (m, n, k) with unit noise."""
        unit = (self.own**-0.5)[..., None]
        return self._along(table * unit, unit, inverse=True)

    def colour(self, table: FloatArray) -> FloatArray:
        """Return rows (m, n, k) of unit noise with this one."""
        unit = (self.own**-0.5)[..., None]
        return self._along(table, unit, inverse=False) / unit

    def _along(self, table: FloatArray, unit: FloatArray, *, inverse: bool) -> FloatArray:
        # With v = D^(-1/2) 1 the covariance is D^(1/2) (1 + s v v') D^(1/2): only its part along v is not that of D.
        weight = self.member.T @ unit**2
        root = np.sqrt(1 + self.shared[:, None, None] * weight)
        level = self.member.T @ (table * unit) * ((1 / root if inverse else root) - 1) / weight
        return table + unit * (self.member @ level)

    def turned(self, table: FloatArray) -> FloatArray:
        """Return rows (m, n, k) times the transposed root that whitens."""
        unit = (self.own**-0.5)[..., None]
        return unit * self._along(table, unit, inverse=True)

    @property
    def sums(self) -> FloatArray:
        """Inverse covariance summed over each cluster, (m, clusters)."""
        weight = 1 / self.own @ self.member
        with np.errstate(over="ignore"):
            return weight / (1 + self.shared[:, None] * weight)

    def traces(self, *, shared: bool) -> tuple[FloatArray, FloatArray]:
        """Return the traces of the inverse covariance and of its square, or of those between clusters, (m,) each."""
        if shared:
            return self.sums.sum(axis=1), (self.sums**2).sum(axis=1)
        weight, square, cube = (self.own**-power @ self.member for power in (1.0, 2.0, 3.0))
        # Sherman and Morrison (1950): the inverse of D + s 1 1' is that of D less a multiple of w w', w = D^-1 1.
        less = np.where(np.isinf(self.shared)[:, None], 1 / weight, 0.0)
        held = np.isfinite(self.shared)
        less[held] = self.shared[held, None] / (1 + self.shared[held, None] * weight[held])
        first = weight.sum(axis=1) - np.sum(less * square, axis=1)
        return first, np.sum(square - 2 * less * cube + less**2 * square**2, axis=1)

    def rows(self, keep: NDArray[np.intp]) -> _Noise:
        return _Noise(own=self.own[keep], shared=self.shared[keep], member=self.member)


def scattered(
    law: AbstractOptimumLaw,
    cells: Cells,
    clusters: Sequence[Hashable],
    start: FloatArray,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> Scattered:
    """Draw the parameters of a law and the scatter about it; every cell must be observed.

    Parameters
    ----------
    law : AbstractOptimumLaw
    cells : Cells
    clusters : sequence of length n
        Cluster of each cell.
    start : array of shape (p,)
        Parameters near the best ones.
    resamples : int
    rng : numpy.random.Generator
        For the part of simulated optima that moves no parameter to first order.
    """
    n, size, count = cells.y.size, start.size, SCATTERS.size
    labels = {label: i for i, label in enumerate(dict.fromkeys(clusters))}
    member = np.zeros((n, len(labels)))
    member[np.arange(n), [labels[label] for label in clusters]] = 1.0
    even = even_uniforms(resamples, size + 2)
    middle = np.full(1, 0.5)
    starts, floor = np.repeat(start[None], count, axis=0), SCATTERS[0] ** 2

    def noise(within: FloatArray, between: FloatArray, shrunk: FloatArray | float = 1.0) -> _Noise:
        own = shrunk * cells.variance + (within**2)[:, None] + floor
        return _Noise(own=own, shared=between**2, member=member)

    levels = noise(SCATTERS, np.full(count, np.inf))
    slopes = levels.whiten(law.slopes(starts[:1], cells.x) * np.ones((count, 1, 1)))[0]
    inner = int(np.linalg.matrix_rank(slopes, tol=1e-6 * float(np.linalg.norm(slopes[:, 0]) + 1)))
    apart = n > len(labels) + inner
    within, shrunk, typical = np.zeros(resamples), np.ones(resamples), np.zeros(1)
    if apart:
        inside = _squares(law, cells, starts, levels, shared=False)
        within, shrunk = _inverted(*inside, even[:, 0])
        typical = _inverted(*inside, middle)[0]
    outside = _squares(law, cells, starts, noise(np.repeat(typical, count), SCATTERS), shared=True)
    between, scale = _inverted(*outside, even[:, 1])
    if not apart:
        shrunk = scale
    theta = _fit(law, cells.x, cells.y, start[None], noise(typical, _inverted(*outside, middle)[0]))[0]
    drawn = noise(within, between, shrunk[:, None])
    best = _fit(law, cells.x, cells.y, np.repeat(theta, resamples, axis=0), drawn)[0]
    spread = np.hypot(within, between)
    return Scattered(
        theta=theta[0],
        scatter=float(np.median(spread)),
        draws=_moved(law, cells.x, best, drawn, ndtri(even[:, 2:]), rng),
        scatter_draws=spread,
    )


def _squares(
    law: AbstractOptimumLaw, cells: Cells, starts: FloatArray, noise: _Noise, *, shared: bool
) -> tuple[FloatArray, FloatArray]:
    """Return a sum of squares over its expectation times its degrees of freedom, and these, for m candidates.

    With P the inverse covariance less what the parameters take, it is ``|P y|^2``, or with the sums over clusters
    ``|M' P y|^2`` for what they share. Its expectation is tr(P), its variance 2 tr(P^2), where M' P M stands for P.
    """
    best, left = _fit(law, cells.x, cells.y, starts, noise)
    basis = np.linalg.qr(noise.whiten(law.slopes(best, cells.x) * np.ones((len(best), 1, 1))))[0]
    taken = noise.turned(basis)
    pulled = noise.turned(left[..., None])
    first, second = noise.traces(shared=shared)
    if shared:
        each = noise.sums[..., None]
        taken, pulled = noise.member.T @ taken, noise.member.T @ pulled
        both = np.sum(each * taken**2, axis=(1, 2))
    else:
        both = np.sum(noise.whiten(taken) ** 2, axis=(1, 2))
    expected = first - np.sum(taken**2, axis=(1, 2))
    doubled = second - 2 * both + np.sum((np.swapaxes(taken, 1, 2) @ taken) ** 2, axis=(1, 2))
    df = np.clip(expected**2 / np.maximum(doubled, 1e-300), 1.0, cells.y.size)
    return df * np.sum(pulled**2, axis=(1, 2)) / np.maximum(expected, 1e-300), df


def _inverted(squares: FloatArray, df: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the scatter at which a sum of squares is a chi-squared draw, and the factor of variances where none is.

    `squares` and `df` stand at `SCATTERS`; `level` holds the probabilities of larger draws, (r,).
    """
    share = np.clip(np.maximum.accumulate(chdtrc(df, squares)), 1e-14, 1 - 1e-14)
    scatter = np.exp(np.interp(ndtri(level), ndtri(share), np.log(SCATTERS)))
    small = level <= share[0]
    return np.where(small, 0.0, scatter), np.where(small, np.minimum(squares[0] / chdtri(df[0], level), 1.0), 1.0)


def _fit(
    law: AbstractOptimumLaw, x: FloatArray, y: FloatArray, theta: FloatArray, noise: _Noise
) -> tuple[FloatArray, FloatArray]:
    """Return the best parameters (m, p) and their whitened residuals (m, n), by damped Gauss-Newton steps."""
    lower, upper = law.bounds
    values = np.broadcast_to(y, noise.own.shape)
    theta = np.clip(theta, lower, upper)

    def gap(rows: NDArray[np.intp], own: FloatArray) -> FloatArray:
        return noise.rows(rows).whiten((values[rows] - law.value(own, x))[..., None])[..., 0]

    active = np.arange(len(theta))
    left = gap(active, theta)
    squares = np.sum(left**2, axis=1)
    damping = np.full(len(theta), 1e-6)
    eye = np.eye(theta.shape[1])
    for _ in range(_STEPS):
        design = noise.rows(active).whiten(law.slopes(theta[active], x) * np.ones((active.size, 1, 1)))
        gram = np.swapaxes(design, 1, 2) @ design
        right = np.einsum("mnp,mn->mp", design, left[active])
        diagonal = np.einsum("mpp->mp", gram)
        ridge = damping[active, None] * diagonal + 1e-12 * (diagonal.max(axis=1, keepdims=True) + 1e-300)
        step = np.linalg.solve(gram + ridge[:, :, None] * eye, right[..., None])[..., 0]
        moved = np.clip(theta[active] + step, lower, upper)
        new = gap(active, moved)
        fresh = np.sum(new**2, axis=1)
        gain = squares[active] - fresh
        better = gain > 0
        rows = active[better]
        theta[rows], left[rows], squares[rows] = moved[better], new[better], fresh[better]
        damping[active] = np.where(better, damping[active] / 10, np.maximum(damping[active] * 10, 1e-4))
        active = active[(gain > _SETTLED * squares[active]) | (~better & (damping[active] < _STIFF))]
        if not active.size or isinstance(law, PowerOptimum):
            break
    return theta, left


def _moved(
    law: AbstractOptimumLaw,
    x: FloatArray,
    best: FloatArray,
    noise: _Noise,
    normal: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Return draws of the parameters around the best ones, (r, p).

    A power law is linear, and its parameters are normal. Any other is fitted again to simulated optima, so that draws
    stay on the curved ridges along which its parameters trade off, and end at bounds where the data leave them there.
    """
    design = noise.whiten(law.slopes(best, x) * np.ones((len(best), 1, 1)))
    basis, corner = np.linalg.qr(design)
    if isinstance(law, PowerOptimum):
        step: FloatArray = np.linalg.solve(corner, normal[..., None])[..., 0]
        return best + step
    # Even along the directions that move parameters, random across them.
    unit = rng.standard_normal(noise.own.shape)
    unit += np.einsum("mnp,mp->mn", basis, normal - np.einsum("mnp,mn->mp", basis, unit))
    simulated = law.value(best, x) + noise.colour(unit[..., None])[..., 0]
    return _fit(law, x, simulated, best.copy(), noise)[0]
