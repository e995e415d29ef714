"""Fit the best LR or the best batch size against model size, horizon and batch size."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, check_confidence
from lrscale.laws.choice import TIE, Holdout, near_largest
from lrscale.laws.scale.optimum_data import (
    Design,
    OptimumData,
    confounded,
    geometric_means,
    read_optima,
    separate,
    size_of,
)
from lrscale.laws.scale.optimum_draws import OptimumEstimate, estimate, with_draws
from lrscale.laws.scale.optimum_estimates import derived_of, estimates_of
from lrscale.laws.scale.optimum_fit import OptimumFit, Quantity
from lrscale.laws.scale.optimum_law import BATCH, AbstractOptimumLaw, PowerOptimum, SaturatingOptimum
from lrscale.laws.scale.tobit import Cells, minimise

_KEPT_DRAWS = 1000
# A bootstrap over clusters needs this many more of them than parameters.
_SPARE = 3
_KNEE_BATCHES = 4
_HOLDOUT_DRAWS = 300
_MOST_GROUPS = 12


def fit_optimum_scaling(
    optimum: ArrayLike,
    variables: Mapping[str, ArrayLike],
    *,
    variance: ArrayLike | None = None,
    censored: ArrayLike | None = None,
    cluster: Sequence[Hashable] | ArrayLike | None = None,
    batch: ArrayLike | None = None,
    along_best_batch: bool = False,
    quantity: Quantity = "lr",
    horizon: str = "tokens",
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
    holdout: bool = True,
) -> OptimumFit:
    """Fit ``optimum = c * product of x_i^e_i``, or the form that saturates with the batch size.

    Parameters
    ----------
    optimum : array-like of shape (n,)
        Best LR (or batch size) of each cell, positive; for a censored cell the bound.
    variables : mapping of str to array-like of shape (n,)
        Positive variables by name, for example ``params``, ``tokens``, ``batch``. ``batch`` is the batch size.
    variance : array-like of shape (n,), optional
        Variance of ln(optimum) within each cell, such as the square of the standard error of a slice's vertex. Default
        None: unknown; the scatter about the law then counts it.
    censored : array-like of shape (n,), optional
        1 where the optimum lies above the value, -1 where it lies below, 0 where it was observed. Censored cells enter
        as one-sided terms; to drop them would bend the exponents towards zero.
    cluster : sequence of shape (n,), optional
        What shares a departure from the law. Defaults to the cell of all variables other than the batch.
    batch : array-like of shape (n,) or float, optional
        Batch size behind each optimum, when it is not among the variables; one number when it was the same for all.
    along_best_batch : bool, optional
        Each optimum was found at the best batch size of its cell, and the exponents are wanted along that path; they do
        not hold at a fixed batch size. Defaults to False.
    quantity : {"lr", "batch"}, optional
        What `optimum` is. Defaults to ``"lr"``.
    horizon : str, optional
        Name of the variable that holds the length of training. Defaults to ``"tokens"``.
    confidence : float, optional
        Of all intervals. Defaults to 0.95.
    resamples : int, optional
        Draws, at least 100. Defaults to 1000.
    random_seed : int, optional
        Seed of the draws. Defaults to 0.
    holdout : bool, optional
        Whether to fit once more without the largest cells and report the miss. Defaults to True.

    Returns
    -------
    OptimumFit
        Status `not_identifiable` when no exponent can be told, or when an LR is to be fitted against the horizon while
        the batch size varies and is left out: at a fixed batch the best LR of a public study falls with the horizon,
        along the best batch it rises.

    Raises
    ------
    LrscaleError
        When columns differ in length or a value is not a positive number; the message names the row.

    Notes
    -----
    Each cell has its own variance plus a common scatter about the law. Exponents that the design cannot separate are
    refused by name (`OptimumFit.refused`). With the batch among the variables the saturating law is fitted too; the
    lower AICc is chosen, and within 2 of it the lower leave-one-group-out error.

    References
    ----------
    .. [1] Li, Zheng et al. "Predictable Scale: Part I, Step Law." arXiv:2503.04715 (2025): LR 1.79 params^-0.713
       tokens^0.307 along the best batch, batch 0.58 tokens^0.571.
    .. [2] Bjorck et al. "Scaling Optimal LR Across Token Horizons." arXiv:2409.19913 (2024): tokens^-0.32 at fixed
       batch.

    Examples
    --------
    >>> params = np.repeat([1e8, 4e8, 1.6e9], 3)
    >>> tokens = np.tile([1e10, 4e10, 1.6e11], 3)
    >>> lr = 2e-3 * (params / 4e8) ** -0.7 * (tokens / 4e10) ** -0.3
    >>> fit = fit_optimum_scaling(lr, {"params": params, "tokens": tokens}, batch=256)
    >>> round(fit.estimate("e_params").value, 4), round(fit.estimate("e_tokens").value, 4)
    (-0.7, -0.3)
    """
    check_confidence(confidence)
    if resamples < 100:
        raise LrscaleError(f"resamples {resamples} is below 100", hint="intervals need at least 100 draws")
    if quantity not in ("lr", "batch"):
        raise LrscaleError(f"unknown quantity {quantity!r}", hint='use "lr" or "batch"')
    if quantity == "batch" and BATCH in variables:
        raise LrscaleError("the best batch size cannot depend on the batch size", hint=f"leave {BATCH} out")
    data = read_optima(optimum, variables, variance, censored, cluster, batch)
    design = separate(data)
    empty = OptimumFit(
        quantity=quantity,
        status=FitStatus.TOO_FEW_POINTS,
        reason="",
        law=None,
        refused=design.refused,
        lines=design.lines,
        centre=geometric_means(data),
        n_cells=data.y.size,
        n_censored=int(np.sum(data.side != 0)),
        n_clusters=len(set(data.clusters)),
        observed=tuple(np.exp(data.y).tolist()),
        censored=tuple(int(side) for side in data.side),
        inputs={name: tuple(data.values[:, i].tolist()) for i, name in enumerate(data.names)},
        confidence=confidence,
    )
    why = confounded(data, design, horizon) if quantity == "lr" and not along_best_batch else None
    if why is not None:
        return replace(empty, status=FitStatus.NOT_IDENTIFIABLE, reason=why)
    refusal = _too_little(data, design)
    if refusal is not None:
        return replace(empty, status=refusal[0], reason=refusal[1])
    cells = data.cells(design.used)
    laws = [law for law in _laws(data, design, horizon) if _carried(law, data)]
    if not laws:
        reason = (
            f"{len(set(data.clusters))} clusters for {len(design.used) + 1} parameters; with several cells in some of "
            f"them {len(design.used) + 1 + _SPARE} are needed."
        )
        return replace(empty, status=FitStatus.TOO_FEW_POINTS, reason=reason)
    fitted = [estimate(law, cells) for law in laws]
    found = [(one, _group_error(one, cells, data, design)) for one in fitted]
    ranked = _ranked(found, data.y.size)
    (chosen, error), second = ranked[0], (ranked[1] if len(ranked) > 1 else None)
    drawn = with_draws(
        chosen,
        cells,
        data.clusters,
        confidence=confidence,
        resamples=resamples,
        rng=np.random.default_rng(random_seed),
    )
    own = chosen.aicc(data.y.size)
    other = second[0].aicc(data.y.size) if second is not None else None
    fit = replace(
        empty,
        law=chosen.law.name,
        formula=chosen.law.formula(quantity, empty.centre),
        variables=design.used,
        horizon=horizon if horizon in design.determined else None,
        lack_of_fit_sd=drawn.scatter,
        fitted=tuple(np.exp(chosen.law.value(drawn.theta[None], cells.x)[0]).tolist()),
        aicc=own,
        runner_up=second[0].law.name if second is not None else None,
        aicc_difference=other - own if other is not None and own is not None else None,
        group_error=error,
        runner_up_group_error=second[1] if second is not None else None,
        holdout=_hold_out(chosen.law, cells, data, design, confidence) if holdout else None,
        point=tuple(drawn.theta.tolist()),
        draws=_rounded(np.column_stack([drawn.draws, drawn.scatter_draws])[:_KEPT_DRAWS]),
        batch_range=_batch_range(chosen.law),
        estimates=estimates_of(drawn, design, empty.centre, quantity, confidence),
        derived=derived_of(drawn, design, data, quantity, confidence),
    )
    status, reason = _status(fit, design)
    return replace(fit, status=status, reason=reason, notes=_notes(fit, data, drawn, second, along_best_batch, horizon))


def _too_little(data: OptimumData, design: Design) -> tuple[FitStatus, str] | None:
    observed = int(np.sum(data.side == 0))
    if not design.used:
        return FitStatus.NOT_IDENTIFIABLE, f"No variable varies over the {data.y.size} cells."
    need = len(design.used) + 2
    if observed < need:
        return FitStatus.TOO_FEW_POINTS, (
            f"{observed} observed and {data.y.size - observed} censored cells for {len(design.used)} exponents; "
            f"{need} observed ones are needed."
        )
    return None


def _laws(data: OptimumData, design: Design, horizon: str) -> list[AbstractOptimumLaw]:
    laws: list[AbstractOptimumLaw] = [PowerOptimum(design.used)]
    if BATCH in design.determined:
        seen = data.side == 0
        log = np.log(data.values[seen, data.names.index(BATCH)])
        if np.unique(np.round(log, 6)).size >= _KNEE_BATCHES:
            middle = data.centre[data.names.index(BATCH)]
            moves = horizon if horizon in design.determined else None
            ends = float(log.min() - middle), float(log.max() - middle)
            laws.append(SaturatingOptimum(design.used, moves, *ends))
    return laws


def _carried(law: AbstractOptimumLaw, data: OptimumData) -> bool:
    """Return whether the clusters are enough for the law; cells of their own need no spare ones for a power law."""
    count, size = len(set(data.clusters)), len(law.parameters)
    if int(np.sum(data.side == 0)) < size + 1:
        return False
    return count >= size + _SPARE or (isinstance(law, PowerOptimum) and count == data.y.size)


def _ranked(found: list[tuple[OptimumEstimate, float | None]], n: int) -> list[tuple[OptimumEstimate, float | None]]:
    """Sort by AICc; those within 2 of the lowest by leave-one-group-out error."""
    scores = [one.aicc(n) for one, _ in found]
    known = [score for score in scores if score is not None]
    best = min(known) if known else 0.0

    def key(row: int) -> tuple[bool, float]:
        score, error = scores[row], found[row][1]
        if score is None:
            return True, math.inf
        near = score - best < TIE
        return not near, (math.inf if error is None else error) if near else score

    return [found[row] for row in sorted(range(len(found)), key=key)]


def _group_error(found: OptimumEstimate, cells: Cells, data: OptimumData, design: Design) -> float | None:
    """Return the leave-one-group-out error at the scatter of the whole; clusters are joined to at most a dozen."""
    labels: list[Hashable] = list(data.clusters)
    if len(set(labels)) > _MOST_GROUPS:
        ordered, place = np.unique(size_of(data, design.used)[0], return_inverse=True)
        labels = list(place * min(_MOST_GROUPS, ordered.size) // ordered.size)
    groups = [np.array([own != label for own in labels]) for label in dict.fromkeys(labels)]
    groups = [kept for kept in groups if (~kept & cells.observed).any() and _fits(found.law, cells.rows(kept))]
    if len(groups) < 2:
        return None
    weight = np.array(groups, dtype=np.float64)
    variance = np.broadcast_to(cells.variance + found.scatter**2, weight.shape)
    theta = minimise(found.law, cells, np.repeat(found.theta[None], len(groups), axis=0), variance, weight)[0]
    gap = (cells.y - found.law.value(theta, cells.x))[(weight == 0) & cells.observed]
    return float(np.sqrt(np.mean(gap**2)))


def _fits(law: AbstractOptimumLaw, cells: Cells) -> bool:
    x = cells.x[cells.observed]
    if len(x) < len(law.parameters) + 1:
        return False
    return bool(np.linalg.matrix_rank(x - x.mean(axis=0), tol=0.1) == x.shape[1])


def _hold_out(
    law: AbstractOptimumLaw, cells: Cells, data: OptimumData, design: Design, confidence: float
) -> Holdout | None:
    size, name = size_of(data, design.used)
    held = near_largest(size)
    kept = ~held
    rest, missed = cells.rows(kept), held & cells.observed
    clusters = [own for own, stays in zip(data.clusters, kept, strict=True) if stays]
    count, own_cells = len(set(clusters)), len(set(clusters)) == len(clusters)
    enough = count >= len(law.parameters) + _SPARE or (isinstance(law, PowerOptimum) and own_cells)
    if not missed.any() or not enough or not _fits(law, rest):
        return None
    rng = np.random.default_rng(0)
    found = estimate(law, rest)
    found = with_draws(found, rest, clusters, confidence=confidence, resamples=_HOLDOUT_DRAWS, rng=rng)
    far = cells.x[missed]
    gap = cells.y[missed] - law.value(found.theta[None], far)[0]
    drift = law.value(found.draws, far) - law.value(found.theta[None], far)
    sd = np.sqrt(found.scatter_draws[:, None] ** 2 + cells.variance[missed])
    drift = drift + sd * rng.standard_normal(drift.shape)
    tail = 50 * (1 - confidence)
    lo, hi = np.percentile(drift, [tail, 100 - tail], axis=0)
    return Holdout(
        what=f"the largest {name}",
        n=int(missed.sum()),
        rms_error=float(np.sqrt(np.mean(gap**2))),
        mean_error=float(np.mean(gap)),
        inside=float(np.mean((gap >= lo) & (gap <= hi))),
    )


def _status(fit: OptimumFit, design: Design) -> tuple[FitStatus, str]:
    observed = fit.n_cells - fit.n_censored
    text = (
        f"{observed} observed and {fit.n_censored} censored cells in {fit.n_clusters} clusters, "
        f"scatter {100 * (fit.lack_of_fit_sd or 0.0):.1f} % about the law."
    )
    refused = "; ".join(f"no exponent of {name}: {reason}" for name, reason in design.refused)
    if not design.determined:
        return FitStatus.NOT_IDENTIFIABLE, f"{refused[0].upper()}{refused[1:]}. {text}"
    return FitStatus.OK, f"{text} {refused[0].upper()}{refused[1:]}." if refused else text


def _notes(
    fit: OptimumFit,
    data: OptimumData,
    found: OptimumEstimate,
    second: tuple[OptimumEstimate, float | None] | None,
    along: bool,
    horizon: str,
) -> tuple[str, ...]:
    notes = []
    if along:
        notes.append("Exponents hold along the best batch size of each cell, not at a fixed batch size.")
    elif fit.quantity == "lr" and horizon in fit.variables:
        fixed = f"{data.batch[0]:.4g}" if data.batch is not None and BATCH not in data.names else None
        notes.append(f"Exponents hold at batch size {fixed}." if fixed else "Exponents hold at a fixed batch size.")
    if second is not None and fit.group_error is not None and second[1] is not None and second[1] < fit.group_error:
        notes.append(
            f"AICc prefers {fit.law}, but {second[0].law.name} predicts cells left out better "
            f"({second[1]:.3g} against {fit.group_error:.3g} in ln)."
        )
    if isinstance(found.law, SaturatingOptimum):
        knee = fit.estimate("knee")
        if knee.value is None:
            notes.append(f"All batch sizes lie on one side of the knee, which is only bounded: {knee.text()}.")
    return tuple(notes)


def _rounded(table: FloatArray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(f"{value:.9g}") for value in row) for row in table)


def _batch_range(law: AbstractOptimumLaw) -> tuple[float, float] | None:
    return (law.lowest, law.highest) if isinstance(law, SaturatingOptimum) else None
