"""The likelihood of a curve of best LRs, from the posteriors of the slices' vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import log_ndtr

from lrscale.laws.base import FloatArray
from lrscale.laws.optimal_lr.law_fit import Vertices

SCATTERS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Standard deviations in ln(LR) of the slices' optima about the law that are tried."""
# A half-Cauchy density: what is not seen in the data should be small (Gelman 2006, Bayesian Analysis 1, 515-534).
_SCATTER_SCALE = 0.003
_POINTS = 512
_MARGIN = 1.0
# A slice may be wrong altogether; its density never falls below that of one in a thousand anywhere in 20 of ln(LR).
_WRONG = 1e-3 / 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VertexDensity:
    """Log-likelihood of best LRs at the slices' batch sizes for each scatter of `SCATTERS`.

    The posterior of a slice's vertex has a flat prior, so its density is the likelihood of the best LR; it need not be
    normal. It is convolved with the scatter of the optima about the law.
    """

    data: Vertices
    spread: FloatArray
    """Standard deviation of each censored bound without scatter, shape (n,)."""
    start: FloatArray
    """First point of each table, shape (n,)."""
    step: FloatArray
    """Its spacing, shape (n,)."""
    table: FloatArray
    """Log densities, shape (scatters, n, points)."""

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the log-likelihood of ln(best LR) `x`, shape (c, n), as shape (c, scatters)."""
        total = np.tile(_log_prior(), (len(x), 1))
        for j in range(x.shape[1]):
            if self.data.side[j]:
                sd = np.hypot(self.spread[j], np.array(SCATTERS))
                total += log_ndtr(self.data.side[j] * (x[:, j, None] - self.data.y[j]) / sd)
            else:
                place = np.clip((x[:, j] - self.start[j]) / self.step[j], 0.0, _POINTS - 1.000001)
                left = place.astype(np.intp)
                part = (place - left)[:, None]
                table = self.table[:, j].T
                total += (1 - part) * table[left] + part * table[left + 1]
        return total


def vertex_density(data: Vertices, draws: Sequence[FloatArray], spread: FloatArray) -> VertexDensity:
    """Tabulate the density of each slice's vertex from its draws (ignored where the slice is censored)."""
    n = data.y.size
    start, step = np.zeros(n), np.ones(n)
    table = np.zeros((len(SCATTERS), n, _POINTS))
    for j in range(n):
        if data.side[j]:
            continue
        lo, hi = float(np.min(draws[j])) - _MARGIN, float(np.max(draws[j])) + _MARGIN
        width = (hi - lo) / _POINTS
        counts = np.bincount(((draws[j] - lo) / width).astype(np.intp), minlength=_POINTS) / len(draws[j])
        start[j], step[j] = lo + width / 2, width
        for k, scatter in enumerate(SCATTERS):
            density = gaussian_filter1d(counts, scatter / width, mode="constant", truncate=6.0) / width
            table[k, j] = np.log(density + _WRONG)
    return VertexDensity(data=data, spread=spread, start=start, step=step, table=table)


def _log_prior() -> FloatArray:
    scatter = np.array(SCATTERS)
    # Even spacing in the logarithm of the scatter, hence one factor of it.
    weight = scatter / (1 + (scatter / _SCATTER_SCALE) ** 2)
    prior: FloatArray = np.log(weight / weight.sum())
    return prior
