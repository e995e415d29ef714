"""Fit the best LR of one slice: several peak LRs at one batch size, horizon and schedule."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, Interval, check_confidence
from lrscale.laws.lr_slice.basin_fit import BasinFit, fit_basin
from lrscale.laws.lr_slice.slice_draws import draw_curves, equivalent_lrs, parabola_vertex
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.lr_slice.window import without_far
from lrscale.laws.noise import decompose
from lrscale.laws.runs import Runs, read_runs

MIN_DISTINCT_LRS = 4
_POOR_FIT_P = 1e-3
# A miss below this part of the excess of the fourth best LR leaves the minimum where it is, whatever the tolerance.
_SMALL_MISS = 0.05
# With one degree of freedom the free exponents can fit noise exactly, and the noise is then taken for nothing.
_MIN_SPARE = 2
_MAX_VERTEX_DRAWS = 1000
_MAX_CURVE_DRAWS = 256


def fit_lr_slice(
    lr: ArrayLike,
    loss: Sequence[float | None] | ArrayLike,
    *,
    diverged: ArrayLike | None = None,
    seed: Sequence[Hashable] | ArrayLike | None = None,
    noise_sd: float | None = None,
    noise_df: float = 30.0,
    tolerance: float = 1e-3,
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
) -> LRSliceFit:
    """Fit ``loss = A lr^-p + B lr^q + C`` and locate its minimum, with an interval, or say why that is impossible.

    Parameters
    ----------
    lr : array-like of shape (n,)
        Peak LR of each run, positive.
    loss : array-like of shape (n,)
        Final loss of each run, any sign and unit, lower is better. None, NaN or infinite: the run diverged.
    diverged : array-like of bool, shape (n,), optional
        Runs to count as diverged although their loss is finite.
    seed : sequence of shape (n,), optional
        Seed of each run. Runs that share a seed share initialisation and example order, hence a common shift of the
        loss, which is removed. Without it all runs are taken as independent.
    noise_sd : float, optional
        Standard deviation of a run at fixed LR and seed, known from elsewhere, for example pooled over slices. Ignored,
        and said so in `reason`, when the residuals of this slice contradict it (p < 0.01).
    noise_df : float, optional
        Degrees of freedom behind `noise_sd`. Defaults to 30.
    tolerance : float, optional
        LRs whose loss is within this fraction of the minimum count as equivalent. Defaults to 1e-3. A curve that misses
        the mean losses by less, and by less than 5 % of the depth of the basin, is no poor fit however sure the miss.
    confidence : float, optional
        Of all intervals. Defaults to 0.95.
    resamples : int, optional
        Number of posterior draws, at least 100. Defaults to 1000. Interval ends of the best LR do not depend on it.
    random_seed : int, optional
        Seed of the draws. Defaults to 0.

    Returns
    -------
    LRSliceFit
        With status `ok` only when the lowest mean loss is not at an end of the grid, two distinct LRs lie on each side
        of the fitted minimum (LRs that diverged count as one point of the upper side, those far above as one of
        theirs), the curvature's interval
        excludes zero, and the interval of the best LR is closed. A minimum at an end is censored, never reported as the
        best LR.

    Raises
    ------
    LrscaleError
        When columns differ in length or an LR is not a positive number.

    Notes
    -----
    Points far above the minimum are modelled less well and are noisier, so their variance is taken as that of the noise
    plus the square of a part of their fitted excess: 1, 3 or 10 %, mixed by what the runs say (see `fit_basin`). Where
    replicates far above differ more than near ones, their noise grows with the excess (see `relative_variance`). LRs
    that are further above than the model can follow are no part of the curve (see `without_far`).

    References
    ----------
    .. [1] Schaipp et al. "The Surprising Agreement Between Convex Optimization Theory and Learning-Rate Scheduling for
       Large Model Training." arXiv:2501.18965 (2025), for A/lr + B lr + C.
    .. [2] Golub, Pereyra. "The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables
       Separate." SIAM J. Numer. Anal. 10 (1973).

    Examples
    --------
    >>> lr = [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
    >>> fit = fit_lr_slice(lr, [1e-3 / x + 10 * x + 2 for x in lr])
    >>> fit.status.value, round(fit.best_lr, 6)
    ('ok', 0.01)
    """
    check_confidence(confidence)
    if resamples < 100:
        raise LrscaleError(f"resamples {resamples} is below 100", hint="intervals of the loss need at least 100 draws")
    if noise_sd is not None and not (math.isfinite(noise_sd) and noise_sd > 0 and noise_df > 0):
        raise LrscaleError(f"noise_sd {noise_sd} and noise_df {noise_df} must be positive", hint="or leave them out")
    runs = read_runs(lr, loss, diverged, seed)
    empty = _empty(runs, confidence)
    if not runs.kept.any():
        return replace(empty, status=FitStatus.ALL_DIVERGED, reason=_diverged_reason(runs))
    distinct = np.unique(runs.lr[runs.kept])
    n_blocks = runs.blocks()[0].shape[1]
    spare = int(runs.kept.sum()) - n_blocks - 2
    if distinct.size < MIN_DISTINCT_LRS or (spare < _MIN_SPARE and noise_sd is None):
        reason = (
            f"{distinct.size} distinct LRs finished ({int(runs.kept.sum())} runs, {n_blocks} seed levels); a slice "
            f"needs {MIN_DISTINCT_LRS} distinct LRs and, with unknown noise, {_MIN_SPARE + 2} runs more than levels."
        )
        return replace(empty, status=FitStatus.TOO_FEW_POINTS, reason=reason)
    kept_loss = runs.loss[runs.kept]
    if np.ptp(kept_loss) <= 1e-13 * np.max(np.abs(kept_loss)):
        return replace(empty, status=FitStatus.NOT_IDENTIFIABLE, reason="All losses are equal.")
    near, rows = without_far(runs)
    core = fit_basin(near, noise_sd=noise_sd, noise_df=noise_df)
    return _conclude(near, rows, core, empty, tolerance, confidence, resamples, random_seed)


def _conclude(
    runs: Runs,
    rows: np.ndarray,
    core: BasinFit,
    empty: LRSliceFit,
    tolerance: float,
    confidence: float,
    resamples: int,
    random_seed: int,
) -> LRSliceFit:
    x = np.log(runs.lr[runs.kept])
    distinct = np.unique(x)
    tail = (1 - confidence) / 2
    ends = core.posterior.vertex_quantile(np.array([tail, 1 - tail]), blurred=True)
    lower, upper = np.clip(ends, None, core.upper)
    t = float(stdtrit(core.spare_df, 1 - tail))
    curvature = Interval(core.curvature - t * core.curvature_se, core.curvature + t * core.curvature_se, confidence)
    trained = np.array([lr for lr, loss in zip(empty.lr, empty.loss, strict=True) if loss is not None])
    beyond = bool(np.any(np.log(trained) < distinct[0])), bool(np.any(np.log(trained) > distinct[-1]))
    status, reason = _status(runs, core, (float(lower), float(upper)), curvature, distinct, beyond, tolerance)
    draws, shape_se, basin_se = draw_curves(core, runs, resamples, np.random.default_rng(random_seed))
    quadratic, quadratic_half = parabola_vertex(core, t)
    ok = status is FitStatus.OK
    distance = abs(quadratic - core.vertex) if quadratic is not None else math.inf
    half = (upper - core.vertex) if quadratic is None or quadratic > core.vertex else (core.vertex - lower)
    levels = draws[:, 4]
    min_loss = core.min_loss
    lo, hi = np.percentile(levels, [100 * tail, 100 - 100 * tail])
    margin = max(tolerance * abs(min_loss), 2 * shape_se)
    low_exponent, high_exponent = core.exponents
    scale = max(core.curvature, 0.0) / (low_exponent + high_exponent)
    amplitudes = (
        scale / low_exponent * math.exp(low_exponent * core.vertex),
        scale / high_exponent * math.exp(-high_exponent * core.vertex),
        min_loss - scale * (1 / low_exponent + 1 / high_exponent),
    )
    fitted, spread, loss = (np.full(len(empty.lr), np.nan) for _ in range(3))
    fitted[rows[runs.kept]], spread[rows[runs.kept]], loss[rows] = core.fitted, core.residual_sd, runs.loss
    far = len(set(empty.lr)) - len(set(runs.lr))
    left_out = "" if far == 0 else f" The curve leaves out {far} LRs whose losses are far above."
    return replace(
        empty,
        status=status,
        reason=reason + core.note + left_out,
        best_lr=math.exp(core.vertex) if ok else None,
        interval=_interval(runs, core, status, (float(lower), float(upper)), confidence),
        equivalence=equivalent_lrs(core, margin, distinct) if ok else None,
        equivalence_margin=margin if ok else None,
        min_loss=min_loss if ok else None,
        min_loss_interval=Interval(min(float(lo), min_loss), max(float(hi), min_loss), confidence) if ok else None,
        curvature=core.curvature if ok else None,
        curvature_interval=curvature,
        noise_sd=core.noise_sd,
        noise_df=core.noise_df,
        exponents=core.exponents if ok else None,
        amplitudes=amplitudes if ok else None,
        quadratic_lr=math.exp(quadratic) if quadratic is not None and abs(quadratic) < 300 else None,
        models_disagree=bool(ok and distance > math.hypot(half, quadratic_half)),
        expected_regret=core.expected_regret if ok else None,
        outliers=tuple(int(rows[row]) for row in core.outliers),
        fitted=_with_gaps(fitted),
        residual=_with_gaps(loss - fitted),
        vertex=core.vertex,
        vertex_draws=tuple(float(f"{value:.7g}") for value in draws[:_MAX_VERTEX_DRAWS, 0]),
        curve_draws=tuple(
            (float(v), float(p), float(q), float(c), float(m)) for v, p, q, c, m in draws[:_MAX_CURVE_DRAWS]
        ),
        seed_levels=core.block_levels,
        shape_se=shape_se,
        basin_se=basin_se,
        residual_sd=_with_gaps(spread),
        noise_source=core.noise_source,
        misfit=None if core.misfit is None else core.misfit[0],
        misfit_df=None if core.misfit is None else core.misfit[1:],
    )


def _status(
    runs: Runs,
    core: BasinFit,
    interval: tuple[float, float],
    curvature: Interval,
    distinct: np.ndarray,
    beyond: tuple[bool, bool],
    tolerance: float,
) -> tuple[FitStatus, str]:
    best = math.exp(core.vertex)
    lowest, highest = math.exp(distinct[0]), math.exp(distinct[-1])
    bound = runs.diverged_above()
    # LRs far above are no part of the curve; that there are some on a side counts as one point of it.
    above = int(np.sum(distinct > core.vertex)) + (beyond[1] or (bound is not None and bound > max(best, highest)))
    below = int(np.sum(distinct < core.vertex)) + beyond[0]
    argmin = int(np.argmin(decompose(runs).lr_means))
    high = above < 2 or (argmin == distinct.size - 1)
    low = below < 2 or argmin == 0
    # The curvature's own interval is too hopeful on pure noise, because the vertex was chosen to make it large.
    positive = curvature.lo is not None and curvature.lo > 0 and core.flat_p < 1 - curvature.confidence
    # Many replicates see that no curve is exact. What matters is a miss that hides LRs which differ.
    matters = core.lack_of_fit > min(tolerance * abs(core.min_loss), _SMALL_MISS * core.depth)
    if core.lack_of_fit_p < _POOR_FIT_P and matters:
        reason = (
            f"The curve misses the mean losses by {core.lack_of_fit:.2g}, more than their noise (F test, "
            f"p = {core.lack_of_fit_p:.1g}): the slice is not a single basin."
        )
        return FitStatus.POOR_FIT, reason
    diverged = f"; runs diverged from {bound:.3g} upwards" if bound is not None else ""
    if high and not low:
        # One-sided: half the distribution lies at or beyond the end of the grid, and the data exclude the lower end.
        if core.posterior.vertex_quantile(0.05) > distinct[0]:
            reason = f"The loss still falls towards the highest LR that trained, {highest:.3g}{diverged}."
            return FitStatus.CENSORED_HIGH, reason
    elif low and not high and core.posterior.vertex_quantile(0.95) < distinct[-1]:
        return FitStatus.CENSORED_LOW, f"The loss still falls towards the lowest LR, {lowest:.3g}."
    closed = interval[0] > core.lower + 0.01 and (interval[1] < core.upper - 0.01 or core.bounded_by_divergence)
    if high or low or not positive or not closed:
        reason = (
            f"The curvature is {core.curvature:.2g} per ln(LR)^2 ({curvature.text(2)}) at noise {core.noise_sd:.2g}: "
            f"the best LR between {lowest:.3g} and {highest:.3g} cannot be told."
        )
        return FitStatus.NOT_IDENTIFIABLE, reason
    reason = (
        f"The minimum lies inside the grid: {below} LRs below and {above} above {best:.3g}, "
        f"curvature {core.curvature:.2g} per ln(LR)^2{diverged}."
    )
    return FitStatus.OK, reason


def _interval(
    runs: Runs, core: BasinFit, status: FitStatus, ends: tuple[float, float], confidence: float
) -> Interval | None:
    # A bound beyond the grid would rest on the model alone; the grid's end is what the runs can vouch for.
    trained = runs.lr[runs.kept]
    if status is FitStatus.CENSORED_HIGH:
        lo = min(math.exp(float(core.posterior.vertex_quantile(1 - confidence))), float(trained.max()))
        return Interval(lo, runs.diverged_above(), confidence)
    if status is FitStatus.CENSORED_LOW:
        hi = max(math.exp(float(core.posterior.vertex_quantile(confidence))), float(trained.min()))
        return Interval(None, hi, confidence)
    lo_end = math.exp(ends[0]) if ends[0] > core.lower + 0.01 else None
    hi_end = math.exp(ends[1]) if ends[1] < core.upper - 0.01 or core.bounded_by_divergence else None
    if status is FitStatus.NOT_IDENTIFIABLE and lo_end is None and hi_end is None:
        return None
    return Interval(lo_end, hi_end, confidence)


def _with_gaps(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else float(value) for value in values)


def _diverged_reason(runs: Runs) -> str:
    return f"All {runs.lr.size} runs diverged, down to LR {runs.lr.min():.3g}."


def _empty(runs: Runs, confidence: float) -> LRSliceFit:
    labels = {label for label in runs.seeds if label is not None}
    return LRSliceFit(
        status=FitStatus.TOO_FEW_POINTS,
        reason="",
        best_lr=None,
        interval=None,
        equivalence=None,
        equivalence_margin=None,
        min_loss=None,
        min_loss_interval=None,
        curvature=None,
        curvature_interval=None,
        noise_sd=None,
        noise_df=None,
        exponents=None,
        amplitudes=None,
        quadratic_lr=None,
        models_disagree=False,
        expected_regret=None,
        diverged_above=runs.diverged_above(),
        diverged_fraction=runs.diverged_fraction(),
        outliers=(),
        n_runs=int(runs.lr.size),
        n_seeds=len(labels),
        lr=tuple(float(value) for value in runs.lr),
        loss=_with_gaps(runs.loss),
        seeds=runs.seeds,
        fitted=(None,) * runs.lr.size,
        residual=(None,) * runs.lr.size,
        vertex=None,
        vertex_draws=(),
        curve_draws=(),
        seed_levels=(),
        shape_se=None,
        confidence=confidence,
    )
