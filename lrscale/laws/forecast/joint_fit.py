"""Fit one surface to the runs of all cells, with draws of its parameters and of the scatter of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from lrscale.laws.base import FloatArray
from lrscale.laws.forecast.cells import CellTable
from lrscale.laws.forecast.joint_basin import SHARED, Prior, excess, optima, path, prior_of

# Departures of the best LR of a cell from the power law, in ln: from next to none to a factor of 1.6, about the 0.17 of
# the dense runs of arXiv:2503.04715. Chosen on those runs, on which the forecast is also checked.
SCATTERS = (0.06, 0.13, 0.25, 0.45)
# The surface is wrong by this share of the excess: far from the optimum a run says little about where that lies. Chosen
# on the same runs.
_MISFIT = 0.1
# Residuals beyond this many standard deviations count less than their square: one in 370 of normal ones.
_ROBUST = 3.0
# Of ln best batch from that of the best runs; the lower of the two minima is kept.
_STARTS = (0.0, -0.5)
# The fewest whole degrees of freedom at which Student's t has a variance.
_LEAST_DF = 3.0
# Of the finite differences, in ln: the root of the machine's precision.
_STEP = 1.5e-8


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class JointFit:
    """The surface of all cells."""

    table: CellTable
    theta: FloatArray
    """Parameters averaged over the scatter, (p,)."""
    draws: FloatArray
    """(r, p)"""
    scatter: FloatArray
    """Scatter of cells behind each draw, in ln LR, (r,)."""
    levels: FloatArray
    """Fitted loss at the optimum of each cell, (cells,)."""
    noise: float
    """Standard deviation of a run near the optimum about the surface, in the unit of the loss."""
    aicc: float | None
    """Akaike's criterion of the likeliest scatter; parameters count as far as the runs determine them."""

    def optimum_draws(self) -> tuple[FloatArray, FloatArray]:
        """Return draws of ln best LR and ln best batch of each cell, shape (r, cells) each."""
        lr, batch = optima(self.draws.T, self.table)
        return lr.T, batch.T

    def lr_draws(self, at: float | None) -> FloatArray:
        """Return draws of ln best LR of each cell at a given ln batch, or at the best batch for None; (r, cells)."""
        lr, batch = optima(self.draws.T, self.table)
        if at is not None:
            lr = lr + path(self.draws.T[:SHARED, None], at - batch)
        return lr.T

    def regret(self, place: int, log_lr: float, log_batch: float) -> float:
        """Return the loss that a setting costs in a cell, by the surface fitted to its runs."""
        lr, batch = optima(self.theta, self.table)
        return float(excess(self.theta[:SHARED], np.array(log_lr - lr[place]), np.array(log_batch - batch[place])))


def tolerance_of(table: CellTable, tolerance: float) -> float:
    """Return the loss difference that a relative tolerance stands for, positive also where losses are 0."""
    noise = tolerance * float(np.median(np.abs(table.loss[table.best])))
    return max(noise, 1e-9 * float(np.ptp(table.loss))) or 1.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Mode:
    """The surface at one scatter of the cells."""

    theta: FloatArray
    """(p,)"""
    covariance_root: FloatArray
    """Of the free parameters: normal rows times its transpose have their covariance, (free, free)."""
    free: NDArray[np.bool_]
    """(p,)"""
    evidence: float
    """Logarithm of the evidence, up to what all scatters share."""
    inflation: float
    """Sum of squares over degrees of freedom, at least 1."""
    df: float
    aicc: float | None


def fit_jointly(
    table: CellTable,
    *,
    moves: bool = True,
    scatters: Sequence[float] = SCATTERS,
    tolerance: float = 1e-3,
    draws: int = 600,
    random_seed: int = 0,
) -> JointFit:
    """Fit the surface by robust least squares with normal priors, at several scatters of cells, weighted by evidence.

    Parameters
    ----------
    table : CellTable
        At least one cell.
    moves : bool, optional
        Whether optima move with scale. Defaults to True.
    scatters : sequence of float, optional
        Scatters of cells about the power laws, in ln LR, that are weighed against each other; one large value leaves
        every cell its own optimum. Defaults to 0.06 to 0.45.
    tolerance : float, optional
        Relative loss difference taken for the noise of a run. Where runs scatter more about the surface, intervals
        widen accordingly. Defaults to 1e-3.
    draws : int, optional
        Draws of the parameters. Defaults to 600.
    random_seed : int, optional
        Defaults to 0.
    """
    rng = np.random.default_rng(random_seed)
    noise = tolerance_of(table, tolerance)
    variance = noise**2 + (_MISFIT * table.excess) ** 2
    # Runs that scatter more than that about the surface weigh less, so that priors keep the weight that they state.
    first = _search(table, prior_of(table, scatters[0], moves=moves), 1 / variance, None)
    weight = 1 / (variance * first.inflation)
    modes: list[_Mode] = []
    start = first.theta
    for scatter in scatters:
        mode = _search(table, prior_of(table, scatter, moves=moves), weight, start)
        start = mode.theta
        modes.append(mode)
    log_mass = np.array([mode.evidence for mode in modes])
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    place = np.searchsorted(np.cumsum(mass), (np.arange(draws) + 0.5) / draws).clip(max=len(modes) - 1)
    rows = np.empty((draws, modes[0].theta.size))
    for i, mode in enumerate(modes):
        own = np.flatnonzero(place == i)
        normal = rng.standard_normal((own.size, mode.covariance_root.shape[0]))
        stretch = np.sqrt(mode.df / rng.chisquare(mode.df, own.size))
        rows[own] = mode.theta
        rows[np.ix_(own, mode.free)] += stretch[:, None] * (normal @ mode.covariance_root.T)
    theta = np.sum(mass[:, None] * np.array([mode.theta for mode in modes]), axis=0)
    return JointFit(
        table=table,
        theta=theta,
        draws=rows,
        scatter=np.array(scatters)[place],
        levels=_levels(theta, table, weight),
        noise=noise * float(np.sqrt(first.inflation)),
        aicc=modes[int(np.argmax(mass))].aicc,
    )


def _levels(theta: FloatArray, table: CellTable, weight: FloatArray) -> FloatArray:
    """Return the weighted mean of loss less surface in each cell, shape (cells,) or (cells, r)."""
    share = (table.cell == np.arange(table.n_cells)[:, None]) * weight
    rest = np.reshape(table.loss, (-1,) + (1,) * (theta.ndim - 1)) - _above(theta, table)
    level: FloatArray = (share / share.sum(axis=1, keepdims=True)) @ rest
    return level


def _above(theta: FloatArray, table: CellTable) -> FloatArray:
    """Return the surface above the optimum at every run, shape (n,) or (n, r)."""
    lr, batch = optima(theta, table)
    u, v = (np.reshape(own, (-1,) + (1,) * (theta.ndim - 1)) for own in (table.log_lr, table.log_batch))
    return excess(theta[:SHARED], u - lr[table.cell], v - batch[table.cell])


def _search(table: CellTable, prior: Prior, weight: FloatArray, start: FloatArray | None) -> _Mode:
    free = prior.free
    root = np.sqrt(weight)

    def whole(part: FloatArray) -> FloatArray:
        theta = prior.mean.copy()
        theta[free] = part
        return theta

    def residuals(part: FloatArray) -> FloatArray:
        theta = whole(part)
        gap = table.loss - _above(theta, table) - _levels(theta, table, weight)[table.cell]
        return np.concatenate([root * gap, (part - prior.mean[free]) / prior.sd[free]])

    def slopes(part: FloatArray) -> FloatArray:
        theta = whole(part)
        table_of = np.repeat(theta[:, None], part.size + 1, axis=1)
        table_of[np.flatnonzero(free), np.arange(part.size)] += _STEP
        value = _above(table_of, table) + _levels(table_of, table, weight)[table.cell]
        change = -root[:, None] * (value[:, :-1] - value[:, -1:]) / _STEP
        return np.concatenate([change, np.diag(1 / prior.sd[free])])

    begins = [] if start is None else [start[free]]
    for shift in _STARTS if start is None else ():
        begin = prior.mean.copy()
        begin[3] += shift
        begins.append(begin[free])
    found = [
        least_squares(
            residuals, begin, jac=slopes, loss="soft_l1", f_scale=_ROBUST, x_scale=prior.sd[free].clip(max=1.0)
        )
        for begin in begins
    ]
    best = min(found, key=lambda one: float(one.cost))
    n = table.loss.size
    left = residuals(best.x)[:n]
    jac: FloatArray = np.asarray(best.jac, dtype=np.float64)
    # Not by the normal equations, whose condition is the square of this one's: losses may span ten orders of magnitude.
    corner: FloatArray = np.asarray(np.linalg.qr(jac).R, dtype=np.float64)
    spread: FloatArray = np.asarray(np.linalg.inv(corner), dtype=np.float64)
    determined = float(np.sum((jac[:n] @ spread) ** 2))
    df = max(n - table.n_cells - determined, _LEAST_DF)
    inflation = max(1.0, float(np.sum(_bounded(left))) / df)
    evidence = -float(best.cost) - float(np.sum(np.log(np.abs(np.diag(corner)))))
    evidence -= float(np.sum(np.log(prior.sd[free])))
    return _Mode(
        theta=whole(best.x),
        covariance_root=spread,
        free=free,
        evidence=evidence,
        inflation=inflation,
        df=df,
        aicc=_aicc(table, left, weight, determined),
    )


def _aicc(table: CellTable, left: FloatArray, weight: FloatArray, determined: float) -> float | None:
    n, k = table.loss.size, table.n_cells + determined + 1
    if n - k - 1 <= 0:
        return None
    rss = max(float(np.sum(_bounded(left))), 1e-300)
    return float(n * np.log(rss / n) - np.sum(np.log(weight)) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def _bounded(residuals: FloatArray) -> FloatArray:
    """Return squares that grow like the residual beyond a few standard deviations."""
    square: FloatArray = 2 * _ROBUST**2 * (np.sqrt(1 + (residuals / _ROBUST) ** 2) - 1)
    return square
