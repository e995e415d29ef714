"""The likelihood of a curve of best LRs from all runs of several batch sizes: one basin shape, free levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from lrscale.laws.base import FloatArray
from lrscale.laws.lr_slice.basin import EXPONENTS, Whitened, basin, basin_terms, whiten
from lrscale.laws.lr_slice.basin_fit import EXTENSION
from lrscale.laws.noise import decompose
from lrscale.laws.runs import Runs

_POINTS = 256


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The finished runs of one batch size."""

    batch: float
    runs: Runs
    x: FloatArray
    """ln(LR) of the kept runs, shape (n,)."""
    loss: FloatArray
    """Their losses, shape (n,)."""
    blocks: FloatArray
    """One column for each free level, shape (n, blocks)."""
    lower: float
    """Lowest ln(best LR) that is considered."""
    upper: float
    """Highest, at most ln of the LR from which upwards runs diverged."""
    bounded_by_divergence: bool

    @property
    def spare(self) -> int:
        """Number of losses beyond the levels."""
        return int(self.x.size - self.blocks.shape[1])


def read_cell(batch: float, runs: Runs) -> Cell | None:
    """Return the cell of one batch size, or None when no run finished."""
    if not runs.kept.any():
        return None
    x = np.log(runs.lr[runs.kept])
    blocks, _ = runs.blocks()
    bound = runs.diverged_above()
    lower, upper = float(x.min()) - EXTENSION, float(x.max()) + EXTENSION
    bounded = bound is not None and math.log(bound) < upper
    return Cell(
        batch=batch,
        runs=runs,
        x=x,
        loss=runs.loss[runs.kept],
        blocks=blocks,
        lower=lower,
        upper=math.log(bound) if bound is not None and bounded else upper,
        bounded_by_divergence=bounded,
    )


@final
@dataclass(frozen=True, slots=True)
class Evidence:
    """What the runs say at candidates for the best LRs, each of shape (c, columns).

    Columns are pairs of exponents, once for each covariance.
    """

    curvature: FloatArray
    """Least-squares curvature, common to all batch sizes."""
    power: FloatArray
    """Sum of squares of the whitened basin."""
    variance: FloatArray
    """Noise variance."""
    log_mass: FloatArray
    """Log of the posterior density up to a constant."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceLikelihood:
    """Log-likelihood of ln(best LR) at each batch size, levels, curvature and noise integrated out.

    ``loss = level of the batch (and seed) + curvature basin(ln LR - ln best LR(batch); p, q) + noise``. The blocks are
    orthogonal, so the sums over runs that a basin needs are a function of the best LR at one batch size each: they are
    tabulated once for each batch size and looked up for every candidate law.
    """

    models: tuple[tuple[Whitened, ...], ...]
    """The cells under each covariance; the covariances have the same prior weight."""
    lower: FloatArray
    """Lowest ln(best LR) of each batch size, shape (n,)."""
    upper: FloatArray
    """Highest, shape (n,)."""

    @property
    def df(self) -> int:
        """Degrees of freedom of the noise given the curvature."""
        return sum(cell.target.size for cell in self.models[0]) - 1

    def cells(self, column: int) -> tuple[Whitened, ...]:
        """Return the cells under the covariance of a column."""
        return self.models[column // len(EXPONENTS)]

    def total(self, column: int) -> float:
        """Return the sum of squares about the levels under the covariance of a column."""
        return sum(float(cell.target @ cell.target) for cell in self.cells(column))

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the log-likelihood of `x`, shape (c, n), for each column, shape (c, columns)."""
        outside = np.any((x < self.lower) | (x > self.upper), axis=1)
        found = self.evidence(np.clip(x, self.lower, self.upper)).log_mass
        found[outside] = -np.inf
        return found

    def evidence(self, x: FloatArray) -> Evidence:
        """Return curvature, noise and posterior density at `x`, shape (c, n)."""
        count = len(EXPONENTS)
        sums = np.zeros((len(x), 2, count * len(self.models)))
        for j in range(x.shape[1]):
            sums += _tabulated([model[j] for model in self.models], x[:, j])
        power, dot = sums[:, 0], sums[:, 1]
        total = np.repeat([sum(float(cell.target @ cell.target) for cell in model) for model in self.models], count)
        log_scale = np.repeat([sum(cell.log_scale for cell in model) for model in self.models], count)
        curvature = dot / power
        variance = np.maximum(total - curvature * dot, 1e-24 * total + 1e-300) / self.df
        t = curvature / np.sqrt(variance / power)
        # Integral over D > 0 of D times a normal density, as for one slice (see `BasinPosterior`).
        positive = t * ndtr(t) + np.exp(-0.5 * np.minimum(t * t, 1400.0)) / math.sqrt(2 * math.pi)
        log_mass = (
            log_scale
            - 0.5 * self.df * np.log(variance)
            - np.log(power)
            + np.log(np.maximum(positive, 0.0) * np.sqrt(variance) + 1e-300)
        )
        return Evidence(curvature, power, variance, log_mass)

    def residuals(self, cells: Sequence[Cell], x: FloatArray, curvature: float, column: int) -> FloatArray:
        """Return losses minus levels and basins at the best LRs `x`, shape (runs,), in the order of the cells."""
        parts = []
        for cell, data, at in zip(cells, self.cells(column), x, strict=True):
            bare = cell.loss - curvature * basin(cell.x - at, *EXPONENTS[column % len(EXPONENTS)])
            parts.append(bare - cell.blocks @ (data.leveller @ bare))
        return np.concatenate(parts)

    def separate(self, x: FloatArray, column: int) -> tuple[float, int]:
        """Return the residual sum of squares with a curvature for each batch size, and how many there are."""
        left, count = self.total(column), 0
        for cell, value in zip(self.cells(column), x, strict=True):
            power, dot = (float(own) for own in _sums([cell], np.array([value]))[0, :, column % len(EXPONENTS)])
            if power > 0:
                left -= dot**2 / power
                count += 1
        return max(left, 0.0), count


def _sums(models: Sequence[Whitened], x: FloatArray) -> FloatArray:
    """Return the sums of squares of the basins at `x` and their products with the losses, shape (g, 2, columns).

    `models` are the runs of one batch size under each covariance. Points come last until the end, so that the inner
    loops are long: a batch size has two or three LRs beside 18 pairs of exponents.
    """
    low, high = (np.ascontiguousarray(term.transpose(1, 2, 0)) for term in basin_terms(models[0].distinct, x))
    sums = np.empty((2, len(models), len(EXPONENTS), x.size))
    for i, cell in enumerate(models):
        columns = (cell.distinct_operator @ low)[:, None] + (cell.distinct_operator @ high)[None]
        columns = columns.reshape(len(EXPONENTS), -1, x.size) / EXPONENTS.sum(axis=1)[:, None, None]
        sums[0, i] = np.einsum("mng,mng->mg", columns, columns)
        sums[1, i] = np.einsum("mng,n->mg", columns, cell.target)
    return np.ascontiguousarray(sums.reshape(2, -1, x.size).transpose(2, 0, 1))


def _tabulated(models: Sequence[Whitened], x: FloatArray) -> FloatArray:
    """Return the sums at `x` by linear interpolation between points that span it, so that a narrow range is exact."""
    if x.size <= _POINTS:
        return _sums(models, x)
    first, last = float(x.min()), float(x.max())
    step = max((last - first) / (_POINTS - 1), 1e-12)
    table = _sums(models, first + step * np.arange(_POINTS + 1, dtype=np.float64))
    place = (x - first) / step
    left = np.minimum(place.astype(np.intp), _POINTS - 1)
    part = (place - left)[:, None, None]
    answer, right = table.take(left, axis=0), table.take(left + 1, axis=0)
    answer *= 1 - part
    right *= part
    answer += right
    return answer


def excess_of(cell: Cell, loss: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return the mean of each distinct LR over the lowest, for losses in place of the cell's, and each run's LR."""
    _, place = np.unique(cell.x, return_inverse=True)
    whole = cell.runs.loss.copy()
    whole[cell.runs.kept] = loss
    means = decompose(replace(cell.runs, loss=whole)).lr_means
    return means - means.min(), place


def whitened(cells: Sequence[Cell], covariances: Sequence[FloatArray], extra: Sequence[FloatArray]) -> list[Whitened]:
    """Return the cells under relative covariances, to which `extra` is added."""
    return [
        whiten(cell.x, cell.loss, cell.blocks, covariance + more)
        for cell, covariance, more in zip(cells, covariances, extra, strict=True)
    ]


def likelihood_of(cells: Sequence[Cell], models: Sequence[Sequence[Whitened]]) -> SurfaceLikelihood:
    """Return the likelihood of cells under given covariances."""
    return SurfaceLikelihood(
        models=tuple(tuple(model) for model in models),
        lower=np.array([cell.lower for cell in cells]),
        upper=np.array([cell.upper for cell in cells]),
    )
