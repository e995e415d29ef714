"""How much of the noise of each point a fitted law has taken up, and the size of the noise behind its residuals."""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from lrscale.laws.base import MAD_TO_SD, FloatArray
from lrscale.laws.separable import AbstractSeparableLaw, Inputs

# A point that decides a parameter alone has no residual to judge the noise by.
_HIGHEST = 0.9999


def tangent(
    law: AbstractSeparableLaw, x: Inputs, params: FloatArray, *, weight: FloatArray, log: bool = True
) -> FloatArray:
    """Return an orthonormal basis of the directions in which the law can follow the points, shape (n, rank).

    The squares of a row sum to the leverage of that point: by how much its fitted value follows its own observation.

    Parameters
    ----------
    law : AbstractSeparableLaw
        The law that was fitted.
    x : mapping of str to array of shape (n,)
        Variables of the points.
    params : array of shape (n_parameters,)
        Fitted parameters, in the order of the law's own.
    weight : array of shape (n,)
        Inverse variances up to a factor; directions are of points times their square root.
    log : bool, optional
        Whether residuals are differences of logarithms. Defaults to True.

    Examples
    --------
    >>> from lrscale.laws.scale.loss import POWER_DECAY
    >>> at = {"size": np.array([1.0, 10.0, 100.0])}
    >>> basis = tangent(POWER_DECAY, at, np.array([3.0, 0.5]), weight=np.ones(3))  # a line in logarithms
    >>> np.sum(basis**2, axis=1).round(3)
    array([0.833, 0.333, 0.833])
    """
    shaping = list(law.shaping)
    step = np.diag(1e-6 * np.maximum(np.abs(params[shaping]), 1e-2))
    moved = np.repeat(params[None], 2 * len(shaping), axis=0)
    moved[:, shaping] += np.vstack([step, -step])
    above, below = np.split(law.evaluate(moved, x), 2)
    slopes = np.column_stack([law.columns(params[None, shaping], x)[0], (above - below).T])
    if log:
        slopes = slopes / np.maximum(law.evaluate(params[None], x)[0], 1e-300)[:, None]
    slopes = slopes * np.sqrt(weight)[:, None]
    norm = np.linalg.norm(slopes, axis=0)
    left, singular, _ = np.linalg.svd(slopes[:, norm > 0] / norm[norm > 0], full_matrices=False)
    told = left[:, singular > 1e-9 * singular.max(initial=0.0)]
    # Triangular at the points of most leverage: other units of the variables turn `told`, but not this basis.
    _, upper, order = qr(told.T, mode="economic", pivoting=True)
    basis = np.empty_like(told)
    basis[order] = (upper * np.where(np.diagonal(upper) < 0, -1.0, 1.0)[:, None]).T
    return basis


def robust_sd(
    law: AbstractSeparableLaw,
    x: Inputs,
    params: FloatArray,
    residuals: FloatArray,
    weight: FloatArray,
    *,
    log: bool = True,
) -> float:
    """Return the standard deviation of the noise about a fit from the median size of its residuals.

    A fit takes up the noise of a point in proportion to its leverage, and passes through about as many points as it has
    parameters. Residuals are divided by sqrt(1 - leverage), and the smallest `n_parameters` - 1 left out, as MATLAB's
    ``robustfit`` does. Without both, nine points and five parameters make the noise look smaller than it is by a
    quarter, and Huber's loss cuts at residuals of ordinary size; with both it looks nearly twice as large, and such a
    fit is least squares: four spare points cannot tell an outlier.

    Parameters
    ----------
    law, x, params, weight, log
        As in `tangent`; points of weight zero do not count.
    residuals : array of shape (n,)
        In the unit of `log`.

    References
    ----------
    .. [1] Street, Carroll and Ruppert. "A Note on Computing Robust Regression Estimates via Iteratively Reweighted
       Least Squares." The American Statistician 42 (1988).
    """
    kept = weight > 0
    taken = np.sum(tangent(law, x, params, weight=weight, log=log)[kept] ** 2, axis=1)
    size = np.sort(np.abs(residuals[kept]) / np.sqrt(1 - np.minimum(taken, _HIGHEST)))
    return MAD_TO_SD * float(np.median(size[min(law.n_parameters, size.size) - 1 :]))
