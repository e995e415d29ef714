"""One surface for all cells: the loss over LR and batch around an optimum that moves with model size and horizon.

In cell c, with u = ln LR and v = ln batch,

    loss = level_c + k_lr basin(u - u*(v)) + k_batch basin(v - v_c)
    u*(v) = u_c - slope [softplus(knee - (v - v_c)) - softplus(knee)]
    u_c = ln LR_0 + a ln params + b ln horizon + departure,   v_c likewise

so that the best LR rises with the batch below a knee near the best batch, is flat above it, and both optima follow
power laws of the scale up to a departure of each cell. Shapes are shared by all cells: eight runs of one cannot tell
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from lrscale.laws.base import FloatArray
from lrscale.laws.forecast.cells import CellTable
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.surface.shape_prior import BATCH_EXPONENTS, BATCH_WEIGHT, HIGH_EXPONENT, LOW_EXPONENT, SHAPE_SD

NAMES = (
    *("log_lr", "lr_params", "lr_horizon", "log_batch", "batch_params", "batch_horizon"),
    *("lr_curvature", "batch_curvature", "slope", "knee", "lr_low", "lr_high"),
)
"""Parameters shared by the cells; two departures a cell follow, of the LR and of the batch."""
SHARED = len(NAMES)
EXPONENT_SD = 0.5
"""Of the prior of every exponent, about 0. Published ones lie between -0.71 and 0.57 (arXiv:2503.04715, 2409.19913,
2401.02954, 2505.13738), so that it leans on none of them, and speaks only where cells do not."""
# Departures of batches are taken to be this much larger than those of LRs: the basin is flatter along the batch.
_BATCH_SPREAD = 2.0
# The level of a loss does not say how curved it is; the excess over the best run does, within a factor of this (ln).
_CURVATURE_SD = 1.5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Normal priors of all parameters; those that are not free keep their mean."""

    mean: FloatArray
    sd: FloatArray
    free: NDArray[np.bool_]


def prior_of(table: CellTable, scatter: float, *, moves: bool = True) -> Prior:
    """Return the prior for cells whose optima depart from the power laws by `scatter`, in ln LR.

    With one batch size for all runs nothing is known of the batch, and its parameters are not free. With `moves` False
    the exponents are not free either, and stay 0.
    """
    best = table.best
    scale = float(np.median(table.excess[table.excess > 0])) if (table.excess > 0).any() else 1.0
    log_scale = np.log(scale)
    lr, batch = float(table.log_lr[best].mean()), float(table.log_batch[best].mean())
    across = log_scale + np.log(BATCH_WEIGHT)
    low, high = np.log(LOW_EXPONENT), np.log(HIGH_EXPONENT)
    # The slope below the knee was 0.5 to 0.9 in the dense runs of arXiv:2503.04715, and is 0.5 by the square-root rule.
    mean = [lr, 0.0, 0.0, batch, 0.0, 0.0, log_scale, across, 0.6, 0.0, low, high]
    e = EXPONENT_SD
    sd = [5.0, e, e, 5.0, e, e, _CURVATURE_SD, _CURVATURE_SD, 0.25, 1.0, SHAPE_SD, SHAPE_SD]
    free = [True] * SHARED
    if table.one_batch:
        free = [name not in _OF_BATCH for name in NAMES]
    if not moves:
        free = [is_free and name not in _EXPONENTS for is_free, name in zip(free, NAMES, strict=True)]
    n = table.n_cells
    return Prior(
        mean=np.array([*mean, *np.zeros(2 * n)], dtype=np.float64),
        sd=np.array([*sd, *np.full(n, scatter), *np.full(n, _BATCH_SPREAD * scatter)], dtype=np.float64),
        free=np.array([*free, *[True] * n, *[not table.one_batch] * n], dtype=bool),
    )


_OF_BATCH = frozenset({"log_batch", "batch_params", "batch_horizon", "batch_curvature", "slope", "knee"})
_EXPONENTS = frozenset({"lr_params", "lr_horizon", "batch_params", "batch_horizon"})


def batch_scatter(scatter: FloatArray | float) -> FloatArray:
    """Return the standard deviation of a cell's departure in ln batch that goes with one in ln LR."""
    return np.asarray(_BATCH_SPREAD * np.asarray(scatter))


def optima(theta: FloatArray, table: CellTable) -> tuple[FloatArray, FloatArray]:
    """Return ln of the best LR and of the best batch of each cell.

    Parameters
    ----------
    theta : array of shape (p,) or (p, r)
        All parameters.
    table : CellTable
        The cells.

    Returns
    -------
    lr, batch : arrays of shape (cells,) or (cells, r)
    """
    n = table.n_cells
    size, length = (np.reshape(own, (n,) + (1,) * (theta.ndim - 1)) for own in (table.size, table.length))
    lr = theta[0] + theta[1] * size + theta[2] * length + theta[SHARED : SHARED + n]
    batch = theta[3] + theta[4] * size + theta[5] * length + theta[SHARED + n :]
    return lr, batch


def path(shared: FloatArray, batch: FloatArray) -> FloatArray:
    """Return ln of the best LR at a batch, less that at the best one; `batch` is ln batch less that of the best."""
    slope, knee = shared[8], shared[9]
    rise: FloatArray = -slope * (np.logaddexp(0.0, knee - batch) - np.logaddexp(0.0, knee))
    return rise


def slope_at(shared: FloatArray, batch: FloatArray) -> FloatArray:
    """Return d ln(best LR) / d ln(batch) at a batch; `batch` as for `path`."""
    slope: FloatArray = shared[8] * expit(shared[9] - batch)
    return slope


def excess(shared: FloatArray, lr: FloatArray, batch: FloatArray) -> FloatArray:
    """Return the loss above that of the optimum.

    Parameters
    ----------
    shared : array of shape (12,) or (12, r)
        Shared parameters.
    lr, batch : arrays that broadcast with ``shared[0]``
        ln LR and ln batch, less those of the optimum.
    """
    curve_lr, curve_batch, _, _, low, high = shared[6:SHARED]
    along = np.exp(curve_lr) * basin(lr - path(shared, batch), np.exp(low), np.exp(high))
    # Of fixed exponents: losses of published grids are too flat along the batch to tell them.
    across = np.exp(curve_batch) * basin(batch, *BATCH_EXPONENTS)
    total: FloatArray = along + across
    return total
