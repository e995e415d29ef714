"""Fit one loss surface over the learning rate and the batch size, for slices too thin to be fitted alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import OPTIMAL_LR_LAWS, FitStatus, FloatArray, Interval, check_confidence
from lrscale.laws.lr_slice.basin import EXPONENTS, basin
from lrscale.laws.lr_slice.basin_fit import BLUR, MODEL_ERRORS
from lrscale.laws.noise import decompose, variance_ratio_p
from lrscale.laws.optimal_lr.law_mixture import mixed_draws, mixed_lr
from lrscale.laws.optimal_lr.law_posterior import LawPosterior, parameter_interval
from lrscale.laws.runs import Runs, read_runs
from lrscale.laws.surface.surface_ends import interval_at, sided
from lrscale.laws.surface.surface_fit import LRSurfaceFit, SurfaceLaw
from lrscale.laws.surface.surface_likelihood import Cell, SurfaceLikelihood, read_cell
from lrscale.laws.surface.surface_weights import middle_curve, plug_in, surface_posterior, weighted

_MIN_BATCHES = 2
# Best LRs need the noise: two losses more than levels, curvature, amplitude and slope.
_MIN_SPARE = 2
_MOST_DRAWS = 1000
_POOR_FIT_P = 1e-3
# A law with a decline past its knee must be twenty times likelier than every other to take part.
_ON_EVIDENCE = {"surge": math.log(20.0)}
_SHAPE_DF = 3


def fit_lr_surface(
    lr: ArrayLike,
    batch_size: ArrayLike,
    loss: Sequence[float | None] | ArrayLike,
    *,
    diverged: ArrayLike | None = None,
    seed: Sequence[Hashable] | ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
) -> LRSurfaceFit:
    """Fit ``loss = level(batch, seed) + basin(ln LR - ln best LR(batch))`` to all runs in one stage.

    The basin ``A lr^-p + B lr^q`` has the same exponents and curvature at every batch size, and its minimum moves with
    the batch size by a law (constant, square root, linear, power, saturating, ...). Two or three LRs at each batch size
    are then enough, where a slice alone needs four.

    Parameters
    ----------
    lr : array-like of shape (n,)
        Peak LR of each run, positive.
    batch_size : array-like of shape (n,)
        Global batch size of each run, positive; the unit is the caller's and stays that of every prediction.
    loss : array-like of shape (n,)
        Final loss of each run, lower is better. None, NaN or infinite: the run diverged.
    diverged : array-like of bool, shape (n,), optional
        Runs to count as diverged although their loss is finite.
    seed : sequence of shape (n,), optional
        Seed of each run. At each batch size the runs of a seed share a level of their own.
    confidence : float, optional
        Of all intervals. Defaults to 0.95.
    resamples : int, optional
        Posterior draws, at least 100. Defaults to 1000.
    random_seed : int, optional
        Seed of the draws. Defaults to 0.

    Returns
    -------
    LRSurfaceFit
        Status `ok` when at least two batch sizes have two LRs each, the losses curve upwards by more than their noise,
        and the interval of the best LR is closed in the middle of the measured batch sizes. When the lowest mean loss
        is at the highest LR of every batch size the fit is censored, likewise at the lowest.

    Raises
    ------
    LrscaleError
        When columns differ in length, or an LR or a batch size is not a positive number.

    Notes
    -----
    Levels, curvature and noise are integrated out in closed form; law, its parameters and the exponents on a grid.
    Priors: flat in the log amplitude and in the law's shape, D for the curvature D (see `BasinPosterior`). Laws are
    mixed by their marginal likelihood. One curvature for all batch sizes is tested against one for each (F test);
    p < 0.001 is a poor fit, since the best LRs then lean on a wrong shape.

    References
    ----------
    .. [1] Golub, Pereyra. "The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables
       Separate." SIAM J. Numer. Anal. 10 (1973).
    .. [2] Hoeting, Madigan, Raftery, Volinsky. "Bayesian Model Averaging: A Tutorial." Statistical Science 14 (1999).

    Examples
    --------
    >>> batch = np.repeat([16, 64, 256, 1024], 3)
    >>> best = 1e-3 * np.sqrt(batch)
    >>> lr = np.tile([3e-3, 1.2e-2, 4.8e-2], 4)
    >>> fit = fit_lr_surface(lr, batch, 2 + best / lr + lr / best)
    >>> fit.status.value, [round(value, 4) for value in fit.best_lrs]
    ('ok', [0.004, 0.008, 0.016, 0.032])
    """
    check_confidence(confidence)
    if resamples < 100:
        raise LrscaleError(f"resamples {resamples} is below 100", hint="intervals need at least 100 draws")
    runs = read_runs(lr, loss, diverged, seed)
    sizes = _read_batches(batch_size, runs)
    cells = [cell for cell in (read_cell(float(size), _at(runs, sizes == size)) for size in np.unique(sizes)) if cell]
    empty = _empty(runs, cells, confidence)
    if not cells:
        reason = f"All {runs.lr.size} runs diverged, down to LR {runs.lr.min():.3g}."
        return replace(empty, status=FitStatus.ALL_DIVERGED, reason=reason)
    telling = [cell for cell in cells if np.unique(cell.x).size > 1]
    spare = sum(cell.spare for cell in telling) - 2
    if len(telling) < _MIN_BATCHES or spare - 1 < _MIN_SPARE:
        reason = (
            f"{len(telling)} batch sizes have two or more LRs that finished, with {max(spare + 2, 0)} losses beyond "
            f"their levels; a surface needs {_MIN_BATCHES} batch sizes and {_MIN_SPARE + 3} such losses."
        )
        return replace(empty, reason=reason)
    rng = np.random.default_rng(random_seed)
    distinct = len(telling)
    laws = [law for law in OPTIMAL_LR_LAWS.values() if law.n_parameters <= max(min(distinct - 1, spare - 2), 1)]
    likelihood, inflation = weighted(telling, laws, confidence, rng)
    rows = np.concatenate([np.flatnonzero((sizes == cell.batch) & runs.kept) for cell in telling])
    empty = replace(empty, outliers=tuple(int(row) for row in np.sort(rows[inflation > 1])))
    found = {}
    for law in laws:
        own = surface_posterior(law, telling, likelihood, min(resamples, _MOST_DRAWS), rng, confidence)
        if own is not None:
            found[law.name] = _blurred(own, telling, rng)
    if not found:
        reason = "No law of the best LR passes within a factor of eight of the LRs at every batch size."
        return replace(empty, status=FitStatus.NOT_IDENTIFIABLE, reason=reason)
    return _conclude(telling, likelihood, found, empty)


def _read_batches(batch_size: ArrayLike, runs: Runs) -> FloatArray:
    sizes = np.atleast_1d(np.asarray(batch_size, dtype=np.float64))
    if sizes.shape != runs.lr.shape:
        raise LrscaleError(
            f"batch_size has shape {sizes.shape}, lr has {runs.lr.shape}", hint="give one batch size for each run"
        )
    for row, size in enumerate(sizes):
        if not (math.isfinite(size) and size > 0):
            raise LrscaleError(f"row {row}: batch size {size} is not a positive number", hint="drop or mend the row")
    return sizes


def _at(runs: Runs, rows: NDArray[np.bool_]) -> Runs:
    seeds = tuple(label for label, kept in zip(runs.seeds, rows, strict=True) if kept)
    return Runs(lr=runs.lr[rows], loss=runs.loss[rows], diverged=runs.diverged[rows], seeds=seeds)


def _blurred(own: LawPosterior, cells: Sequence[Cell], rng: np.random.Generator) -> LawPosterior:
    """Return the posterior with the error of the basin's shape, which shifts the best LR of all batch sizes alike."""
    spacing = float(np.median(np.concatenate([np.diff(np.unique(cell.x)) for cell in cells])))
    errors = np.array(MODEL_ERRORS)[own.hidden // len(EXPONENTS)]
    count = len(own.params)
    # Quantiles in random order: the median stays where it was.
    normal = ndtri((rng.permutation(count) + 0.5) / count)
    params = own.params.copy()
    params[:, 0] *= np.exp(BLUR * errors * spacing * normal)
    return replace(own, params=params)


def _weights(found: dict[str, LawPosterior]) -> dict[str, float]:
    """Return the share of each law: its marginal likelihood among those that take part, best first.

    Rules without a free slope take part only when no other law does: predictions would inherit a slope that was
    assumed, not measured.
    """
    score = {name: own.log_evidence for name, own in found.items()}
    for name, margin in _ON_EVIDENCE.items():
        others = [value for other, value in score.items() if other != name]
        if name in score and others and score[name] < max(others) + margin:
            del score[name]
    sloped = {name: value for name, value in score.items() if OPTIMAL_LR_LAWS[name].n_parameters > 1} or score
    top = max(sloped.values())
    shares = {name: math.exp(value - top) for name, value in sloped.items()}
    total = sum(shares.values())
    return {name: share / total for name, share in sorted(shares.items(), key=lambda pair: -pair[1])}


def _conclude(
    cells: Sequence[Cell], likelihood: SurfaceLikelihood, found: dict[str, LawPosterior], empty: LRSurfaceFit
) -> LRSurfaceFit:
    confidence = empty.confidence
    tail = (1 - confidence) / 2
    weights = _weights(found)
    chosen = next(iter(weights))
    law, own = OPTIMAL_LR_LAWS[chosen], found[chosen]
    vertex = middle_curve(law, own, cells, likelihood)
    curvature, column, noise = plug_in(likelihood, vertex)
    power = float(likelihood.evidence(vertex[None, :]).power[0, column])
    spare = likelihood.df - law.n_parameters
    residual = likelihood.df * noise**2
    # The curve's own parameters cost degrees of freedom, which the posterior counts by integrating over them.
    noise_sd = math.sqrt(residual / spare)
    t = float(stdtrit(spare, 1 - tail))
    half = t * noise_sd / math.sqrt(power)
    flat_p = variance_ratio_p(
        max(likelihood.total(column) - residual, 0.0) / (_SHAPE_DF + law.n_parameters - 1),
        _SHAPE_DF + law.n_parameters - 1,
        noise_sd**2,
        spare,
    )
    lone, count = likelihood.separate(vertex, column)
    left = spare - (count - 1)
    shared_p = None
    if left >= _MIN_SPARE and count > 1:
        shared_p = variance_ratio_p(max(residual - lone, 0.0) / (count - 1), count - 1, lone / left, left)
    draws = mixed_draws(weights, {name: one.params for name, one in found.items()}, len(own.params))
    sizes = np.array(empty.batch_sizes)
    curves = np.log(mixed_lr(draws, sizes))
    ends = np.quantile(curves, [tail, 0.5, 1 - tail], axis=0)
    status, reason = _status(cells, likelihood, chosen, weights, curves, sizes, curvature, flat_p, shared_p, confidence)
    ok = status is FitStatus.OK
    return replace(
        empty,
        status=status,
        reason=reason,
        law=chosen if ok else None,
        runner_up=list(weights)[1] if ok and len(weights) > 1 else None,
        table=tuple(_row(name, one, weights, found, confidence) for name, one in _ranked(found)),
        best_lrs=tuple(float(value) for value in np.exp(ends[1])) if ok else empty.best_lrs,
        intervals=tuple(
            interval_at(status, lo, hi, float(size), cells, confidence)
            for lo, hi, size in zip(*sided(status, curves, tail), sizes, strict=True)
        ),
        min_losses=_min_losses(sizes, cells, likelihood, vertex, curvature, column) if ok else empty.min_losses,
        exponents=(float(EXPONENTS[column % len(EXPONENTS), 0]), float(EXPONENTS[column % len(EXPONENTS), 1]))
        if ok
        else None,
        curvature=curvature if ok else None,
        curvature_interval=Interval(curvature - half, curvature + half, confidence),
        shared_curvature_p=shared_p,
        noise_sd=noise_sd,
        noise_df=float(spare),
        draws=draws if ok else (),
    )


def _status(
    cells: Sequence[Cell],
    likelihood: SurfaceLikelihood,
    law: str,
    weights: dict[str, float],
    curves: FloatArray,
    sizes: FloatArray,
    curvature: float,
    flat_p: float,
    shared_p: float | None,
    confidence: float,
) -> tuple[FitStatus, str]:
    ends = []
    for cell in cells:
        means = decompose(cell.runs).lr_means
        lowest = int(np.argmin(means))
        ends.append(1 if lowest == means.size - 1 else -1 if lowest == 0 else 0)
    if all(end == 1 for end in ends):
        return FitStatus.CENSORED_HIGH, f"At all {len(ends)} batch sizes the loss still falls at the highest LR."
    if all(end == -1 for end in ends):
        return FitStatus.CENSORED_LOW, f"At all {len(ends)} batch sizes the loss still falls at the lowest LR."
    if shared_p is not None and shared_p < _POOR_FIT_P:
        reason = (
            f"One curvature does not describe all batch sizes (F test, p = {shared_p:.1g}): fit each batch size alone."
        )
        return FitStatus.POOR_FIT, reason
    tail = (1 - confidence) / 2
    lo, hi = np.quantile(curves, [tail, 1 - tail], axis=0)
    measured = np.isin(sizes, [cell.batch for cell in cells])
    bounded = np.array([cell.bounded_by_divergence for cell in cells])
    closed = (lo[measured] > likelihood.lower + 0.01) & ((hi[measured] < likelihood.upper - 0.01) | bounded)
    if flat_p > 1 - confidence or curvature <= 0 or not closed.any():
        reason = (
            f"The curvature is {curvature:.2g} per ln(LR)^2 and a flat loss has p = {flat_p:.2g}: the best LR cannot "
            "be told from these runs."
        )
        return FitStatus.NOT_IDENTIFIABLE, reason
    others = list(weights)[1:]
    rival = f"; {others[0].replace('_', ' ')} has weight {weights[others[0]]:.2f}" if others else ""
    shape = (
        "one curvature for all of them could not be tested"
        if shared_p is None
        else f"one curvature describes all of them (p = {shared_p:.2g})"
    )
    reason = (
        f"The {law.replace('_', ' ')} law (weight {weights[law]:.2f}{rival}) links {len(cells)} batch sizes from "
        f"{sizes.min():g} to {sizes.max():g}; {shape}."
    )
    return FitStatus.OK, reason


def _min_losses(
    sizes: FloatArray,
    cells: Sequence[Cell],
    likelihood: SurfaceLikelihood,
    vertex: FloatArray,
    curvature: float,
    column: int,
) -> tuple[float | None, ...]:
    levels = {}
    for cell, data, at in zip(cells, likelihood.cells(column), vertex, strict=True):
        shape = curvature * basin(cell.x - at, *EXPONENTS[column % len(EXPONENTS)])
        levels[cell.batch] = float((data.leveller @ (cell.loss - shape)).mean())
    return tuple(levels.get(float(size)) for size in sizes)


def _ranked(found: dict[str, LawPosterior]) -> list[tuple[str, LawPosterior]]:
    return sorted(found.items(), key=lambda pair: -pair[1].log_evidence)


def _row(
    name: str, own: LawPosterior, weights: dict[str, float], found: dict[str, LawPosterior], confidence: float
) -> SurfaceLaw:
    law = OPTIMAL_LR_LAWS[name]
    top = max(one.log_evidence for one in found.values())
    return SurfaceLaw(
        law=name,
        weight=weights.get(name, 0.0),
        log_evidence=own.log_evidence - top,
        parameters=tuple(
            (parameter.name, float(np.median(own.params[:, i])), parameter_interval(law, own, i, confidence))
            for i, parameter in enumerate(law.parameters)
        ),
    )


def _empty(runs: Runs, cells: Sequence[Cell], confidence: float) -> LRSurfaceFit:
    nothing = (None,) * len(cells)
    return LRSurfaceFit(
        status=FitStatus.TOO_FEW_POINTS,
        reason="",
        law=None,
        runner_up=None,
        table=(),
        batch_sizes=tuple(cell.batch for cell in cells),
        best_lrs=nothing,
        intervals=nothing,
        min_losses=nothing,
        exponents=None,
        curvature=None,
        curvature_interval=None,
        shared_curvature_p=None,
        noise_sd=None,
        noise_df=None,
        diverged_above=tuple(cell.runs.diverged_above() for cell in cells),
        n_runs=int(runs.lr.size),
        n_diverged=int(runs.diverged.sum()),
        n_seeds=len({label for label in runs.seeds if label is not None}),
        draws=(),
        confidence=confidence,
    )
