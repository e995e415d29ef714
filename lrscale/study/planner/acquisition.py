"""What another run is expected to gain at every setting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from lrscale.study.planner.hypothesis import kernel
from lrscale.study.planner.posterior import Posterior
from lrscale.study.planner.space import FloatArray

WIDE_SD, WIDE_SHARE = 0.8, 0.45
"""Standard deviation in z, and length scales as shares of the box, of the doubt of `wide_gain`. Judgement: the loss may
be half of what is expected, over distances of half the box."""
WIDE_NUGGET = 1e-4
LEAST = 0.05
"""Lowest ratio of losses whose logarithm is taken; an expectation may lie below every run."""


def expected_gain(posterior: Posterior, best: float) -> FloatArray:
    """Return the expected improvement in z on a loss, averaged over the members.

    Parameters
    ----------
    posterior : Posterior
        What is expected.
    best : float
        Loss above the lowest run's.

    Returns
    -------
    array of float, shape (settings,)
    """
    scale = posterior.scale
    gain: FloatArray = posterior.weights @ improvement(
        _z(best, scale),
        _z(posterior.means, scale),
        posterior.sds / np.maximum(scale + posterior.means, LEAST * scale),
    )
    return gain


def gain_beside(posterior: Posterior, best: float, running: Sequence[int]) -> FloatArray:
    """Return how much lower, in z, the best of a round is expected to end by one run more, averaged over the members.

    Each member has its own view of where the runs of the round end. A setting gains where a member that they do not
    serve sees its minimum: the round is spread over what the runs leave open, not around the likeliest minimum.

    Parameters
    ----------
    posterior : Posterior
        What is expected; all that fits, not the likeliest alone, which agree more than the runs make sure.
    best : float
        Loss above the lowest run's.
    running : sequence of int
        Settings that are running, at least one.

    Returns
    -------
    array of float, shape (settings,)
    """
    scale = posterior.scale
    means = _z(posterior.means, scale)
    reached = np.minimum(_z(best, scale), means[:, list(running)].min(axis=1))
    gain: FloatArray = posterior.weights @ np.maximum(reached[:, None] - means, 0.0)
    return gain


def wide_gain(posterior: Posterior, best: float, logs: FloatArray, done: FloatArray, box: FloatArray) -> FloatArray:
    """Return the same under a process that knows no basins: what they rule out may still be there.

    Parameters
    ----------
    posterior : Posterior
        Its mean is that of the process.
    best : float
        Loss above the lowest run's.
    logs, done : array of float, shape (settings, 2) and (n, 2)
        Natural logarithms of LR and batch size of all settings, and of those that ran or are running.
    box : array of float, shape (2, 2)
        Rows of lowest and highest of them.
    """
    lengths = WIDE_SHARE * np.maximum(box[1] - box[0], 1e-9)
    covariance = kernel(done, done, lengths) + WIDE_NUGGET * np.eye(len(done))
    known = np.linalg.solve(np.linalg.cholesky(covariance), kernel(done, logs, lengths))
    sd = WIDE_SD * np.sqrt(np.maximum(1 - (known**2).sum(axis=0), 1e-12))
    return improvement(0.0, _z(posterior.mean, posterior.scale) - _z(best, posterior.scale), sd)


def improvement(best: FloatArray | float, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return the expected improvement of a normal variable on `best` (Jones et al. 1998); arguments broadcast.

    Examples
    --------
    >>> round(float(improvement(0.0, np.array(0.0), np.array(1.0))), 4)  # 1 / sqrt(2 pi)
    0.3989
    """
    ahead = best - mean
    score = ahead / np.maximum(sd, 1e-12)
    density = np.exp(-(score**2) / 2) / math.sqrt(2 * math.pi)
    gain: FloatArray = ahead * ndtr(score) + sd * density
    return gain


def _z(excess: FloatArray | float, scale: float) -> FloatArray:
    z: FloatArray = np.log(np.maximum(1 + np.asarray(excess) / scale, LEAST))
    return z
