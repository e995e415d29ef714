"""Least squares for many data sets at once: a fit and its bootstrap draws in one pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lrscale.laws.base import FloatArray

MOST_STEPS = 80
DIFFERENCE = 1e-6
"""Step of the difference quotients, in units of parameters that are logarithms: about the root of the precision."""
FLAT = 1e-9
"""Relative fall of the sum of squares below which a row has converged."""
MOST_DAMPING = 1e7
"""At this damping no step in any direction helps."""


def solve(
    residuals: Callable[[FloatArray, FloatArray, float], FloatArray],
    starts: FloatArray,
    targets: FloatArray,
    noise: float,
) -> tuple[FloatArray, FloatArray]:
    """Minimise sums of squares by Levenberg's and Marquardt's method (Marquardt 1963), each row on its own.

    Parameters
    ----------
    residuals : callable
        From parameters of shape (m, p), targets of shape (m, n) and the noise to residuals of shape (m, q).
    starts : array of shape (m, p)
    targets : array of shape (m, n)
    noise : float

    Returns
    -------
    params : array of shape (m, p)
    costs : array of shape (m,)
        Sums of squares there.
    """
    params = starts.copy()
    costs = (residuals(params, targets, noise) ** 2).sum(axis=1)
    damping = np.full(len(params), 1e-2)
    count = params.shape[1]
    active = np.arange(len(params))
    for _ in range(MOST_STEPS):
        here, aims, damp = params[active], targets[active], damping[active]
        now = residuals(here, aims, noise)
        jacobian = np.empty((*now.shape, count))
        for place in range(count):
            moved = here.copy()
            moved[:, place] += DIFFERENCE
            jacobian[:, :, place] = (residuals(moved, aims, noise) - now) / DIFFERENCE
        turned = jacobian.transpose(0, 2, 1)
        square, slope = turned @ jacobian, (turned @ now[:, :, None])
        diagonal = np.maximum(np.einsum("mii->mi", square), 1e-12)
        square[:, range(count), range(count)] += damp[:, None] * diagonal + 1e-300
        step = np.clip(np.linalg.solve(square, -slope)[:, :, 0], -2.0, 2.0)
        cost = (residuals(here + step, aims, noise) ** 2).sum(axis=1)
        better = cost < costs[active]
        done = np.where(better, costs[active] - cost < FLAT * costs[active], damp >= MOST_DAMPING)
        params[active[better]] += step[better]
        costs[active[better]] = cost[better]
        damping[active] = np.clip(np.where(better, damp / 4, damp * 5), 1e-12, MOST_DAMPING)
        active = active[~done]
        if not active.size:
            break
    return params, costs
