"""Draws of the parameters of a loss law: clusters of runs get random weights, and the law is fitted again."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from lrscale.laws.base import FloatArray
from lrscale.laws.resample import cluster_weights
from lrscale.laws.separable import AbstractSeparableLaw, Inputs
from lrscale.laws.varpro import Residual, Solution, resolve


def spread(clusters: int, n_parameters: int, confidence: float) -> float:
    """Return by how much a bootstrap over few clusters must be widened.

    Residuals are smaller than the noise by (m - k) / m in variance, for m clusters and k parameters, and Student's t
    stands in for the normal distribution (Hesterberg 2015). Both corrections go into the weights, so that draws stay on
    the curved ridges along which the parameters of a scaling law trade off.
    """
    df = clusters - n_parameters
    tail = (1 + confidence) / 2
    return math.sqrt(clusters / df) * float(stdtrit(df, tail) / ndtri(tail))


def draw(
    law: AbstractSeparableLaw,
    x: Inputs,
    loss: FloatArray,
    clusters: Sequence[Hashable],
    found: Solution,
    *,
    residual: Residual,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return draws of the parameters, shape (resamples, n_parameters)."""
    wider = spread(len(set(clusters)), law.n_parameters, confidence)
    weights = cluster_weights(clusters, resamples, rng, spread=wider)
    return resolve(law, x, loss, found.params, weight=weights, residual=residual, delta=found.delta)
