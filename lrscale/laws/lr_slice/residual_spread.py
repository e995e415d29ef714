"""How far the runs of a slice should lie from their fitted curve, if the noise and the curve are what the fit takes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lrscale.laws.base import FloatArray

NoiseSource = Literal["replicates", "residuals"]
"""Where the noise of a slice comes from: runs at equal LRs, or also the distances of the runs from the curve."""


def residual_spread(covariance: FloatArray, assumed: FloatArray, directions: FloatArray) -> FloatArray:
    """Return the standard deviation of each residual of a regression by generalised least squares.

    A run pulls the curve towards itself, so that its residual is smaller than its noise: with R = I - X (X' W X)^-1 X'
    W the residuals have the covariance R V R'.

    Parameters
    ----------
    covariance : array of shape (n, n)
        Covariance of the runs, V.
    assumed : array of shape (n, n)
        Covariance by whose inverse W the runs were weighted: larger where the weight of an outlier was reduced.
    directions : array of shape (n, parameters)
        What the fit takes out, X; columns may depend on each other.

    Returns
    -------
    array of shape (n,)
        At least 1e-6 of the standard deviation of the run: 0, up to rounding, where the curve goes through it whatever
        its loss.

    References
    ----------
    .. [1] Cook, Weisberg. "Residuals and Influence in Regression." Chapman and Hall (1982), section 2.2.

    Examples
    --------
    >>> residual_spread(np.eye(4), np.eye(4), np.ones((4, 1))).round(3).tolist()  # a mean of four
    [0.866, 0.866, 0.866, 0.866]
    """
    inverse = np.linalg.inv(np.linalg.cholesky(assumed))
    hat = directions @ np.linalg.pinv(inverse @ directions) @ inverse
    left = np.eye(len(covariance)) - hat
    variance = np.einsum("ij,jk,ik->i", left, covariance, left, optimize=True)
    spread: FloatArray = np.sqrt(np.maximum(variance, 1e-12 * np.diag(covariance)))
    return spread
