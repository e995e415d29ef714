"""What follows from a fitted basin: draws of the curve, equivalent LRs, and the parabola as a check."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from lrscale.laws.base import FloatArray
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.lr_slice.basin_fit import BasinFit
from lrscale.laws.runs import Runs


def draw_curves(core: BasinFit, runs: Runs, count: int, rng: np.random.Generator) -> tuple[FloatArray, float, float]:
    """Draw (ln best LR, p, q, curvature, minimum loss) from the posterior, shape (count, 5), in random order.

    The second value is the standard error of the minimum loss at fixed seeds: half the central 68 % of its draws. The
    third is the part of it that is due to the position and the shape of the basin, without the noise of the level.

    The vertex is drawn systematically (one draw in each of `count` equal shares of the probability), which leaves
    almost no Monte Carlo error in it. With two or more seed blocks the level also gets the t-distributed error of a
    mean over seeds; with one block only the noise within it.
    """
    result = core.posterior
    cumulative = np.cumsum(result.mass.ravel())
    share = (np.arange(count) + rng.random(count)) / count
    cell = np.minimum(np.searchsorted(cumulative, share * cumulative[-1]), cumulative.size - 1)
    row, column = np.divmod(cell, result.mass.shape[1])
    width = np.diff(result.edges)[row]
    vertex = (
        result.vertices[row] + width * rng.uniform(-0.5, 0.5, count) + result.blur[column] * rng.standard_normal(count)
    )
    vertex = np.minimum(vertex, core.upper)
    p, q = result.exponents[column].T
    estimate, se = result.curvature[row, column], result.curvature_se[row, column]
    below = stdtr(result.df, -estimate / se)
    curvature = estimate + se * stdtrit(result.df, np.clip(below + (1 - below) * rng.random(count), 1e-12, 1 - 1e-12))
    curvature = np.maximum(curvature, 0.0)

    kept = runs.kept
    loss = runs.loss[kept]
    shapes = curvature[:, None] * basin(core.whitened.x - vertex[:, None], p[:, None], q[:, None])
    # Each covariance has its own idea of how sure the level is.
    levellers = np.array([data.leveller.mean(axis=0) for data in core.models])
    spreads = np.array([math.sqrt(float(data.level_covariance.mean())) for data in core.models])
    model = result.model[column]
    level = np.sum((loss - shapes) * levellers[model], axis=1)
    level_se = np.sqrt(result.variance[row, column]) * spreads[model] * core.level_inflation
    level_error = level + level_se * rng.standard_t(core.level_df, count)
    whole, shape = (float(np.diff(np.percentile(drawn, [15.87, 84.13]))[0]) / 2 for drawn in (level_error, level))
    levels = np.array([value for _, value in core.block_levels])
    if levels.size > 1:
        spread = float(np.std(levels, ddof=1)) / math.sqrt(levels.size)
        level = level + spread * rng.standard_t(levels.size - 1, count)
    else:
        level = level_error
    draws = np.column_stack([vertex, p, q, curvature, level])
    shuffled: FloatArray = draws[rng.permutation(count)]
    return shuffled, whole, shape


def equivalent_lrs(core: BasinFit, margin: float, distinct: FloatArray) -> tuple[float, float]:
    """Return the lowest and highest LR whose fitted loss exceeds the minimum by at most `margin`, within the grid."""
    p, q = core.exponents

    def spare(u: float) -> float:
        return core.curvature * float(basin(np.array(u), p, q)) - margin

    ends = []
    for edge in (float(distinct[0]) - core.vertex, float(distinct[-1]) - core.vertex):
        if edge == 0 or spare(edge) <= 0:
            ends.append(edge)
        else:
            ends.append(float(brentq(spare, 0.0, edge)))
    return math.exp(core.vertex + min(ends[0], 0.0)), math.exp(core.vertex + max(ends[1], 0.0))


def parabola_vertex(core: BasinFit, t: float) -> tuple[float | None, float]:
    """Return the vertex of a parabola in ln(LR) under the same weights, and the half-width of its interval.

    None when it opens downwards. The delta method with the covariance of both coefficients; x is centred on the basin's
    vertex so that it is stable.
    """
    x = core.whitened.x - core.vertex
    columns = core.whitened.operator @ np.column_stack([x, x * x])
    gram = columns.T @ columns
    if np.linalg.cond(gram) > 1e14:
        return None, math.inf
    inverse = np.linalg.inv(gram)
    slope, curve = inverse @ (columns.T @ core.whitened.target)
    if curve <= 0:
        return None, math.inf
    residual = core.whitened.target - columns @ np.array([slope, curve])
    variance = float(residual @ residual) / max(core.whitened.target.size - 2, 1)
    gradient = np.array([-1 / (2 * curve), slope / (2 * curve**2)])
    half = t * math.sqrt(max(variance * float(gradient @ inverse @ gradient), 0.0))
    return core.vertex - slope / (2 * curve), half
