"""Fit an optimum's law to cells with known variances, some of which are only bounds, for many weights at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from lrscale.laws.base import FloatArray
from lrscale.laws.scale.optimum_law import AbstractOptimumLaw

_LOG_2PI = math.log(2 * math.pi)
_STEPS = 80
_SETTLED = 1e-12
_STIFF = 1e7


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Optima of cells."""

    x: FloatArray
    """Logarithms of the variables less their means, shape (n, v)."""
    y: FloatArray
    """Log optimum, or the bound of a censored cell, shape (n,)."""
    variance: FloatArray
    """Variance of y within its cell, shape (n,)."""
    side: NDArray[np.int_]
    """0 observed, 1 the optimum lies above y, -1 below, shape (n,)."""

    def rows(self, kept: NDArray[np.bool_]) -> Cells:
        """Return some of the cells."""
        return Cells(x=self.x[kept], y=self.y[kept], variance=self.variance[kept], side=self.side[kept])

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Which cells are not censored."""
        return np.asarray(self.side == 0)


def terms(mean: FloatArray, cells: Cells, variance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return minus the log-likelihood of each cell, its slope and its curvature in the mean, each of shape (m, n).

    Gaussian terms for observed cells, Tobit terms for censored ones; `variance` has shape (m, n).

    References
    ----------
    .. [1] Tobin. "Estimation of Relationships for Limited Dependent Variables." Econometrica 26 (1958).
    """
    gap = mean - cells.y
    loss = 0.5 * (gap**2 / variance + np.log(variance) + _LOG_2PI)
    slope, bend = gap / variance, 1 / variance
    censored = ~cells.observed
    if censored.any():
        side = cells.side[censored].astype(np.float64)
        sd = np.sqrt(variance[:, censored])
        z = side * gap[:, censored] / sd
        log_share = log_ndtr(z)
        hazard = np.exp(-0.5 * z * z - 0.5 * _LOG_2PI - log_share)
        loss[:, censored] = -log_share
        slope[:, censored] = -side * hazard / sd
        bend[:, censored] = np.maximum(hazard * (hazard + z), 0.0) / sd**2
    return loss, slope, bend


def minimise(
    law: AbstractOptimumLaw, cells: Cells, theta: FloatArray, variance: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the parameters of highest weighted likelihood and minus its logarithm, shapes (m, p) and (m,).

    Damped Gauss-Newton steps on the mean, Newton steps in the likelihood, which is concave in the mean of each cell.

    Parameters
    ----------
    law : AbstractOptimumLaw
    cells : Cells
    theta : array of shape (m, p)
        Where to start.
    variance : array of shape (m, n)
        Total variance of each cell.
    weight : array of shape (m, n)
    """
    lower, upper = law.bounds
    theta = np.clip(theta, lower, upper)
    loss, slope, bend = terms(law.value(theta, cells.x), cells, variance)
    total = np.sum(weight * loss, axis=1)
    damping = np.full(len(theta), 1e-4)
    active = np.arange(len(theta))
    eye = np.eye(theta.shape[1])
    for _ in range(_STEPS):
        own = theta[active]
        design = law.slopes(own, cells.x)
        pulled = design * (weight[active] * bend[active])[..., None]
        gram = np.swapaxes(pulled, 1, 2) @ design
        right = np.einsum("mnp,mn->mp", design, weight[active] * slope[active])
        diagonal = np.einsum("mpp->mp", gram)
        ridge = damping[active, None] * diagonal + 1e-12 * (diagonal.max(axis=1, keepdims=True) + 1e-300)
        step = np.linalg.solve(gram + ridge[:, :, None] * eye, right[..., None])[..., 0]
        moved = np.clip(own - step, lower, upper)
        new = terms(law.value(moved, cells.x), cells, variance[active])
        new_total = np.sum(weight[active] * new[0], axis=1)
        gain = total[active] - new_total
        better = gain > 0
        rows = active[better]
        theta[rows], total[rows] = moved[better], new_total[better]
        slope[rows], bend[rows] = new[1][better], new[2][better]
        damping[active] = np.where(better, damping[active] / 10, damping[active] * 10)
        # The likelihood holds constants of any size, so that gains are measured against one unit of it.
        active = active[(gain > _SETTLED) | (~better & (damping[active] < _STIFF))]
        if not active.size:
            break
    return theta, total


def information(law: AbstractOptimumLaw, cells: Cells, theta: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the expected second derivative of minus the log-likelihood, shape (m, p, p)."""
    bend = terms(law.value(theta, cells.x), cells, variance)[2]
    design = law.slopes(theta, cells.x)
    gram: FloatArray = np.swapaxes(design * bend[..., None], 1, 2) @ design
    return gram
