"""The likelihood of a curve of best LRs, from the runs of all slices together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import log_ndtr

from lrscale.laws.base import FloatArray
from lrscale.laws.lr_slice.basin import BasinPosterior
from lrscale.laws.optimal_lr.law_fit import Vertices

OWN_PARTS = (0.35, 0.5, 0.7, 1.0, 1.4)
"""Spread of the slices about the law over their own, in even steps of the logarithm: what is below 1 they share."""
SCATTERS = (0.01, 0.03, 0.1, 0.3)
"""Standard deviations in ln(LR) of the slices' optima about the law that are tried besides `LEAST_SCATTER`."""
LEAST_SCATTER = 0.003
# A half-Cauchy density: what is not seen in the data should be small (Gelman 2006, Bayesian Analysis 1, 515-534).
_SCATTER_SCALE = 0.003
_POINTS = 512
_MARGIN = 1.0
# A slice may be wrong altogether; its density never falls below that of one in a thousand anywhere in 20 of ln(LR).
_WRONG = 1e-3 / 20
# Either all slices have one basin, or each its own: before the runs are seen, as likely.
_SHARED = 0.5
# States that are e^-10 less likely than the best even where each slice likes them most change no interval.
_NEGLIGIBLE = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VertexDensity:
    """Log-likelihood of best LRs at the slices' batch sizes, for each hidden state.

    A hidden state has two parts. First, the basin (exponents and model error) that all slices share, or none that they
    share: what a wrong one shifts, it shifts in all slices alike. Second, how far the optima lie from the law. The
    spread of a slice counts errors of the model, which slices on similar grids share; a part of it (`OWN_PARTS`)
    differs between them, or the optima scatter beyond all of it (`SCATTERS`). The scatter of the slices about the law
    decides, as in a meta-regression whose variances are known up to a factor (Knapp and Hartung 2003, Statistics in
    Medicine 22, 2693-2710). What a slice shares with the others moves the amplitude of the law, and not its shape.
    """

    data: Vertices
    spread: FloatArray
    """Standard deviation of each censored bound without scatter, shape (n,)."""
    start: FloatArray
    """First point of each table, shape (n,)."""
    step: FloatArray
    """Its spacing, shape (n,)."""
    table: FloatArray
    """Log densities, shape (n, points, states)."""
    scatter: FloatArray
    """Scatter of each state, shape (states,)."""
    shared: FloatArray
    """Standard deviation in ln(LR) of what all optima share in each state, shape (states,)."""
    log_prior: FloatArray
    """Log of the prior weight of each state, shape (states,)."""

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the log-likelihood of ln(best LR) `x`, shape (c, n), as shape (c, states)."""
        total = np.tile(self.log_prior, (len(x), 1))
        for j in range(x.shape[1]):
            if self.data.side[j]:
                sd = np.hypot(self.spread[j], self.scatter)
                total += log_ndtr(self.data.side[j] * (x[:, j, None] - self.data.y[j]) / sd)
            else:
                place = np.clip((x[:, j] - self.start[j]) / self.step[j], 0.0, _POINTS - 1.000001)
                left = place.astype(np.intp)
                part = (place - left)[:, None]
                total += (1 - part) * self.table[j, left] + part * self.table[j, left + 1]
        return total


def vertex_density(data: Vertices, posteriors: Sequence[BasinPosterior | None], spread: FloatArray) -> VertexDensity:
    """Tabulate the density of each slice's vertex from its posterior (not looked at where the slice is censored).

    The prior of a slice's vertex and basin is flat, so the posterior is their likelihood; it need not be normal.
    """
    n = data.y.size
    seen = [own for own in posteriors if own is not None]
    basins = seen[0].mass.shape[1]
    start, step = np.zeros(n), np.ones(n)
    table = np.zeros((n, _POINTS, basins + 1, len(OWN_PARTS) + len(SCATTERS)))
    for j, own in enumerate(posteriors):
        if own is None or data.side[j]:
            continue
        lo, hi = float(own.edges[0]) - _MARGIN, float(own.edges[-1]) + _MARGIN
        width = (hi - lo) / _POINTS
        start[j], step[j] = lo + width / 2, width
        edges: FloatArray = np.linspace(lo, hi, _POINTS + 1)
        table[j] = np.log(_densities(own, edges) + _WRONG)
    parts = np.array([*OWN_PARTS, *(1.0,) * len(SCATTERS)])
    scatter = np.array([*(LEAST_SCATTER,) * len(OWN_PARTS), *SCATTERS])
    basin = np.append(np.full(basins, _SHARED / basins), 1 - _SHARED)
    log_prior = np.log(basin[:, None] * _prior(scatter))
    highest = log_prior + table.max(axis=1).sum(axis=0)
    kept = highest > highest.max() - _NEGLIGIBLE
    blur, width = np.sqrt(np.mean([_blur_and_variance(own) for own in seen], axis=0))
    shared = np.hypot(blur[:, None], width[:, None] * np.sqrt(np.maximum(1 - parts**2, 0.0)))
    return VertexDensity(
        data=data,
        spread=spread,
        start=start,
        step=step,
        table=np.ascontiguousarray(table[:, :, kept]),
        scatter=np.broadcast_to(scatter, kept.shape)[kept],
        shared=shared[kept],
        log_prior=log_prior[kept],
    )


def _prior(scatter: FloatArray) -> FloatArray:
    """Return the prior weights: equal for the parts of the spread, falling with the scatter beyond it."""
    # Even spacing in the logarithm of the scatter, hence one factor of it.
    weight: FloatArray = scatter / (1 + (scatter / _SCATTER_SCALE) ** 2)
    weight /= weight.sum()
    return weight


def _blur_and_variance(own: BasinPosterior) -> FloatArray:
    """Return the squared blur and the variance of the vertex under each basin and over all, shape (2, basins + 1)."""
    weight = own.mass.sum(axis=0)
    share = own.mass / np.maximum(weight, 1e-300)
    centre = own.vertices @ share
    variance = np.maximum(own.vertices**2 @ share - centre**2, 0.0)
    middle = float(weight @ centre)
    whole = float(weight @ (variance + (centre - middle) ** 2))
    return np.array([np.append(own.blur**2, weight @ own.blur**2), np.append(variance, whole)])


def _densities(own: BasinPosterior, edges: FloatArray) -> FloatArray:
    """Return the likelihood in even cells, (points, basins and their mean, states)."""
    width = float(edges[1] - edges[0])
    basins = own.mass.shape[1]
    weight = own.mass.sum(axis=0)
    centre = own.vertices @ own.mass / np.maximum(weight, 1e-300)
    cumulative = np.vstack([np.zeros(basins), np.cumsum(own.mass, axis=0)])
    total = np.append(0.0, np.cumsum(own.vertex_mass))
    middle = float(weight @ centre)
    answer = np.empty((edges.size - 1, basins + 1, len(OWN_PARTS) + len(SCATTERS)))
    for k, part in enumerate(OWN_PARTS):
        mass = np.empty((edges.size - 1, basins + 1))
        for column in range(basins):
            at = centre[column] + (edges - centre[column]) / part
            mass[:, column] = basins * np.diff(np.interp(at, own.edges, cumulative[:, column]))
        mass[:, basins] = np.diff(np.interp(middle + (edges - middle) / part, own.edges, total))
        answer[..., k] = _blurred(mass, LEAST_SCATTER / width) / width
        if part == 1:
            for i, scatter in enumerate(SCATTERS, start=len(OWN_PARTS)):
                answer[..., i] = _blurred(mass, scatter / width) / width
    return answer


def _blurred(mass: FloatArray, cells: float) -> FloatArray:
    # Loaded where it is used: its import would take as long as planning does.
    from scipy.ndimage import gaussian_filter1d

    blurred: FloatArray = gaussian_filter1d(mass, cells, axis=0, mode="constant", truncate=5.0)
    return blurred
