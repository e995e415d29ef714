"""Fit the basin to the runs of a slice: covariance model, outliers, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lrscale.laws.base import FloatArray
from lrscale.laws.lr_slice.basin import BasinPosterior, Whitened, basin, posterior, whiten
from lrscale.laws.lr_slice.near_noise import relative_variance
from lrscale.laws.lr_slice.residual_spread import NoiseSource, residual_spread
from lrscale.laws.noise import decompose, variance_ratio_p
from lrscale.laws.runs import Runs, SeedLabel

MODEL_ERRORS = (0.01, 0.03, 0.1)
"""Relative errors of the excess over the minimum, as standard deviations, between which the runs decide.

With 0.1 alone, intervals at low noise with replicates were three times too wide and covered 99.7 % (benchmarks/
coverage.py); with 0 the wall before divergence pulls the vertex (coverage below 50 % at 0.1 % noise).
"""
BLUR = 0.3
"""Standard deviation of the vertex, in grid steps for each unit of relative error, that the model's shape leaves."""
# Without noise the fourth best LR sets a floor under the noise that the weights assume, this part of its excess.
_FLOOR_ERROR = 0.1
# The relative error grows once the excess is larger than that of the five best LRs and than five times the noise.
_NEAR = 4
_NOISE_MULTIPLE = 5.0
_COLLAPSED = 3.0
# How far beyond the grid the optimum is looked for: three doublings of the LR on each side.
EXTENSION = math.log(8.0)
# Residuals above five robust standard deviations lose influence; a normal residual gets there once in two million runs.
_OUTLIER = 5.0
MIN_OUTLIER_DF = 5
OUTLIER_ROUNDS = 5
_CONTRADICTED_P = 0.01
_SHAPE_DF = 3
_MIN_PURE_DF = 4
# The sum of squares of residuals is too small by what exponents and weights fitted, which `_noise_df` makes up for in
# the scale of the level; its relative spread stays that of about two degrees more (minimum losses of simulated slices
# of 5, 7 and 8 LRs at one seed were covered in 96.5 to 98 % with one degree more).
_LEVEL_DF = 2.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BasinFit:
    """The basin of a slice and what later steps need of it. LRs are in ln units."""

    posterior: BasinPosterior
    models: tuple[Whitened, ...]
    """The runs under each covariance that was tried."""
    whitened: Whitened
    """The same under the most probable one."""
    lower: float
    """Lowest ln(LR) at which the optimum was looked for."""
    upper: float
    """Highest, at most ln of the LR from which upwards runs diverged."""
    bounded_by_divergence: bool
    """Whether divergence set `upper`."""
    vertex: float
    """Posterior median of ln(best LR)."""
    exponents: tuple[float, float]
    """Most probable (p, q) at the vertex."""
    curvature: float
    """Least-squares curvature at the vertex, per ln(LR)^2."""
    curvature_se: float
    """Its standard error, with the slope and the levels free as well."""
    spare_df: float
    """Degrees of freedom left after levels, curvature and vertex."""
    noise_sd: float
    """Standard deviation of a run at fixed LR and block: of replicates, else of the residuals about the basin."""
    level_inflation: float
    """Factor by which the posterior's own standard deviation of the noise is too small for the level."""
    level_df: float
    """Degrees of freedom of the level's error."""
    noise_df: float
    """Degrees of freedom behind it."""
    noise_source: NoiseSource
    """Whether `noise_sd` is of replicates alone."""
    block_levels: tuple[tuple[SeedLabel, float], ...]
    """(seed, minimum loss of its runs)."""
    min_loss: float
    """Mean of the block levels."""
    expected_regret: float
    """Posterior mean of the loss at the vertex minus the lowest loss."""
    fitted: FloatArray
    """Fitted losses of the kept runs."""
    residual_sd: FloatArray
    """Standard deviation that the residual of each kept run should have."""
    outliers: tuple[int, ...]
    """Rows of the input whose weight was reduced."""
    lack_of_fit_p: float
    """p-value of the curve against the LR means; 1 without replicates."""
    misfit: tuple[float, float, float] | None
    """Mean square of the LR means about the curve over that of replicates, and both degrees of freedom."""
    lack_of_fit: float
    """By how much the curve misses the LR means beyond their noise, as a root mean square near the minimum; 0 without
    replicates."""
    depth: float
    """Fitted loss of the fourth best LR minus the lowest: how deep the basin is that the runs show."""
    flat_p: float
    """p-value of a constant loss against the basin (its vertex, curvature and skew)."""
    note: str
    """A sentence to add to the reason, or nothing."""


def fit_basin(runs: Runs, *, noise_sd: float | None, noise_df: float) -> BasinFit:
    """Fit the basin: equal weights first, then weights from the fitted excess, then again without gross outliers.

    The relative covariance of two runs at LRs i and j of noise s is ``[same run] + [i = j] (d_i / s)^2`` with
    ``d = e excess sqrt(1 + (excess / near)^2)``, mixed over the relative errors e of `MODEL_ERRORS` by their marginal
    likelihood: the error of the model is shared by all runs at an LR, so replicates
    do not average it away. ``[same run]`` is larger where replicates far from the lowest LRs differ more than near them
    (`relative_variance`). Only one reweighting: with few runs, iterating weights on the noise that those weights
    produce shrinks both (90 instead of 95 % coverage at seven LRs and one seed).
    """
    x, loss = np.log(runs.lr[runs.kept]), runs.loss[runs.kept]
    blocks, labels = runs.blocks()
    distinct, place = np.unique(x, return_inverse=True)
    bound = runs.diverged_above()
    lower, upper = float(distinct[0]) - EXTENSION, float(distinct[-1]) + EXTENSION
    bounded = bound is not None and math.log(bound) < upper
    if bound is not None and bounded:
        upper = math.log(bound)
    spacing = float(np.median(np.diff(distinct)))
    spare = loss.size - len(labels) - 2
    # Losses are centred: a large common offset would only cost digits.
    centre = float(loss.mean())
    target = loss - centre
    inflation = np.ones(loss.size)
    cleaned = loss
    unequal = relative_variance(runs)
    for _ in range(OUTLIER_ROUNDS):
        flagged = inflation > 1
        clean_loss = runs.loss.copy()
        clean_loss[runs.kept] = cleaned
        parts = decompose(replace(runs, loss=clean_loss), unequal)
        pure_df = parts.df - int(flagged.sum())
        pure_variance = float(np.sum(parts.residuals**2)) / pure_df if pure_df >= _MIN_PURE_DF else None
        excess = parts.lr_means - parts.lr_means.min()
        known_variance, known_df, note = 0.0, 0.0, ""
        extra = np.diag(inflation * unequal - 1)
        data = whiten(x, target, blocks, first_covariance(excess, place) + extra)
        first = posterior([data], lower, upper)
        if noise_sd is not None:
            own = pure_variance if pure_variance is not None else _plug_in_variance(first)
            own_df = pure_df if pure_variance is not None else max(spare, 1)
            if variance_ratio_p(own, own_df, noise_sd**2, noise_df) < _CONTRADICTED_P:
                note = f" The given noise sd {noise_sd:.2g} is contradicted by the residuals and was not used."
            else:
                known_variance, known_df = noise_sd**2, noise_df
        scale = math.sqrt(pure_variance or known_variance or _plug_in_variance(first))
        covariances = [_covariance(first, excess, distinct, place, scale, error) for error in MODEL_ERRORS]
        models = [
            whiten(x, target, blocks, covariance + extra, BLUR * error * spacing)
            for error, covariance in zip(MODEL_ERRORS, covariances, strict=True)
        ]
        result = posterior(models, lower, upper, noise_variance=known_variance, noise_df=known_df)
        model = int(result.model[result.plug_in(float(result.vertex_quantile(0.5)))[1]])
        data = models[model]
        if spare < MIN_OUTLIER_DF:
            break
        residual = _residuals(data, result, target, blocks)
        previous, inflation = inflation, outlier_inflation(residual, np.diag(covariances[model]) + unequal - 1, spare)
        cleaned = loss - np.where(inflation > 1, residual, 0.0)
        if np.all((inflation > 1) == (previous > 1)):
            break
    outliers = tuple(int(row) for row in np.flatnonzero(runs.kept)[inflation > 1])
    vertex = float(result.vertex_quantile(0.5))
    row, column = result.plug_in(vertex)
    curvature = float(result.curvature[row, column])
    p, q = (float(value) for value in result.exponents[column])
    shape = curvature * basin(x - vertex, p, q)
    levels = data.leveller @ (target - shape)
    variance = float(result.variance[row, column])
    residual_ss = variance * result.df - known_df * known_variance
    lack_p, lack_of_fit, misfit = 1.0, 0.0, None
    if pure_variance is not None and not outliers and spare > parts.df:
        lack = max(residual_ss - pure_variance * parts.df, 0.0) / (spare - parts.df)
        lack_p = variance_ratio_p(lack, spare - parts.df, pure_variance, parts.df)
        misfit = (lack / pure_variance, float(spare - parts.df), float(parts.df)) if pure_variance > 0 else None
        # What runs at one LR miss together counts once for each of them.
        lack_of_fit = math.sqrt(max(lack - pure_variance, 0.0) * distinct.size / loss.size)
    free_df = _noise_df(spare) + known_df
    plug_in = (max(residual_ss, 0.0) + known_df * known_variance) / free_df
    noise = (pure_variance, pure_df) if pure_variance is not None else (plug_in, free_df)
    regret = np.maximum(result.curvature, 0) * basin(
        vertex - result.vertices[:, None], result.exponents[None, :, 0], result.exponents[None, :, 1]
    )
    return BasinFit(
        posterior=result,
        models=tuple(models),
        whitened=data,
        lower=lower,
        upper=upper,
        bounded_by_divergence=bounded,
        vertex=vertex,
        exponents=(p, q),
        curvature=curvature,
        curvature_se=2 * math.sqrt(variance * _square_term_variance(data, vertex)),
        spare_df=max(spare, 0) + known_df,
        noise_sd=math.sqrt(noise[0]),
        level_inflation=math.sqrt(result.df / free_df),
        level_df=free_df + _LEVEL_DF,
        noise_df=float(noise[1]),
        noise_source="residuals" if pure_variance is None else "replicates",
        block_levels=tuple((label, float(level) + centre) for label, level in zip(labels, levels, strict=True)),
        min_loss=float(levels.mean()) + centre,
        expected_regret=float(np.sum(result.mass * regret)),
        fitted=blocks @ levels + shape + centre,
        residual_sd=math.sqrt(noise[0])
        * residual_spread(
            covariances[model] + np.diag(unequal - 1), covariances[model] + extra, _directions(x, blocks, vertex, p, q)
        ),
        outliers=outliers,
        lack_of_fit_p=lack_p,
        misfit=misfit,
        lack_of_fit=lack_of_fit,
        depth=float(np.sort(curvature * basin(distinct - vertex, p, q))[min(3, distinct.size - 1)]),
        flat_p=variance_ratio_p(
            max(float(data.target @ data.target) - max(residual_ss, 0.0), 0.0) / _SHAPE_DF,
            _SHAPE_DF,
            variance,
            max(spare, 0) + known_df,
        ),
        note=note,
    )


def _directions(x: FloatArray, blocks: FloatArray, vertex: float, p: float, q: float) -> FloatArray:
    """Return what the fit takes out of the runs: levels, curvature, and the slope that moves the vertex."""
    u = x - vertex
    slope = (np.exp(np.clip(q * u, -50.0, 200.0)) - np.exp(np.clip(-p * u, -50.0, 200.0))) / (p + q)
    return np.column_stack([blocks, basin(u, p, q), slope])


def _noise_df(spare: int) -> float:
    """Return the degrees of freedom of residuals about a basin whose exponents and weights were fitted as well.

    Exponents and weights take up to two more than the level, the curvature and the vertex, but never half of what is
    left: over simulated slices of 5, 7 and 8 LRs the sum of squares of 2, 4 and 5 spare degrees was that of 0.8, 2.2
    and 2.6.
    """
    return max(spare - 2.0, spare / 2, 0.5)


def _square_term_variance(data: Whitened, vertex: float) -> float:
    """Return the variance of the coefficient of (x - vertex)^2 beside a free slope, in units of the noise variance."""
    u = data.distinct - vertex
    columns = data.distinct_operator @ np.column_stack([u, u * u])
    gram = columns.T @ columns
    left = float(gram[1, 1] - gram[0, 1] ** 2 / gram[0, 0])
    return 1 / left if left > 0 else math.inf


def _plug_in_variance(result: BasinPosterior) -> float:
    return float(result.variance[result.plug_in(float(result.vertex_quantile(0.5)))])


def first_covariance(excess: FloatArray, place: np.ndarray) -> FloatArray:
    """Return equal weights, except for LRs that trained to a loss far above all others.

    Runs that collapse without a non-finite loss can end a thousand times further up than the basin is deep; no curve
    describes both. Up to three times the excess of the fifth best LR nothing changes.
    """
    near = float(np.sort(excess)[min(_NEAR, excess.size - 1)])
    far = np.maximum(excess / (_COLLAPSED * near), 1.0) ** 4 - 1 if near > 0 else np.zeros(excess.size)
    shared: FloatArray = np.eye(place.size) + np.equal.outer(place, place) * far[place][:, None]
    return shared


def _covariance(
    result: BasinPosterior,
    observed: FloatArray,
    distinct: FloatArray,
    place: np.ndarray,
    scale: float,
    model_error: float,
) -> FloatArray:
    vertex = float(result.vertex_quantile(0.5))
    row, column = result.plug_in(vertex)
    p, q = result.exponents[column]
    curvature = max(float(result.curvature[row, column]), 0.0)
    return excess_covariance(curvature * basin(distinct - vertex, p, q), observed, place, scale, model_error)


def excess_covariance(
    fitted: FloatArray, observed: FloatArray, place: np.ndarray, scale: float, model_error: float
) -> FloatArray:
    """Return the relative covariance of runs whose LRs have a fitted and an observed excess over the minimum.

    Parameters
    ----------
    fitted : array of shape (k,)
        Fitted loss of each distinct LR minus the fitted minimum.
    observed : array of shape (k,)
        Mean loss of each distinct LR minus the lowest of them.
    place : array of shape (n,)
        Index of the distinct LR of each run.
    scale : float
        Standard deviation of a run.
    model_error : float
        Relative error of the excess.
    """
    # Where the runs lie above the curve, theirs is the distance to go by; `observed` is counted from the lowest mean.
    lowest = int(np.argmin(observed))
    excess = np.maximum(fitted, observed + fitted[lowest])
    ordered = np.sort(fitted)
    scale = max(scale, _FLOOR_ERROR * float(ordered[min(3, ordered.size - 1)]) / 2)
    if scale <= 0:
        return np.eye(place.size)
    near = max(float(ordered[min(_NEAR, ordered.size - 1)]), _NOISE_MULTIPLE * scale)
    model = (model_error * excess / scale) ** 2 * (1 + (excess / near) ** 2)
    shared: FloatArray = np.eye(place.size) + np.equal.outer(place, place) * model[place][:, None]
    return shared


def _residuals(data: Whitened, result: BasinPosterior, target: FloatArray, blocks: FloatArray) -> FloatArray:
    vertex = float(result.vertex_quantile(0.5))
    row, column = result.plug_in(vertex)
    shape = result.curvature[row, column] * basin(data.x - vertex, *result.exponents[column])
    residual: FloatArray = target - shape - blocks @ (data.leveller @ (target - shape))
    return residual


def outlier_inflation(residual: FloatArray, variance: FloatArray, spare: int) -> FloatArray:
    """Return the factor by which the variance of each run is raised; 1 for all but gross outliers.

    The factor (r / s)^2 makes the influence of a residual r fall like 1 / r. At most an eighth of the runs count as
    outliers.

    Parameters
    ----------
    residual, variance : array of shape (n,)
        Residuals, and the variances that they should have up to a common factor.
    spare : int
        Degrees of freedom of the residuals.
    """
    size = np.abs(residual) / np.sqrt(variance)
    # 0.6745 is the median of |z| for a standard normal z.
    robust = float(np.median(size)) / 0.6745 * math.sqrt(size.size / spare)
    if robust <= 1e-12 * float(np.max(np.abs(residual)) + 1e-300) or robust == 0:
        return np.ones(size.size)
    ratio = size / robust
    most = max(size.size // 8, 1)
    far = (ratio > _OUTLIER) & (ratio >= np.sort(ratio)[-most])
    factor: FloatArray = np.where(far, ratio, 1.0) ** 2
    return factor
