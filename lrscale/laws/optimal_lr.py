"""Fit the best LR against the batch size from the vertices of LR slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, fdtrc, fdtri

from lrscale.errors import LrscaleError
from lrscale.laws.base import OPTIMAL_LR_LAWS, AbstractLaw, FitStatus, FloatArray, Interval, check_confidence
from lrscale.laws.law_fit import LawEstimates, Vertices, chi_squared, fit_law, leave_one_out
from lrscale.laws.optimal_lr_fit import LawRow, OptimalLRFit, Verdict
from lrscale.laws.slice_fit import LRSliceFit

# A law is not believed to better than 5 % of the LR at one batch size, however small the slices' own errors are.
LACK_OF_FIT_FLOOR = 0.05
_RULES = ("constant", "square_root", "linear")
_TIE = 2.0
# A t distribution with one degree of freedom has draws that no float can hold as an LR; e^20 either way is none.
_FARTHEST = 20.0


def fit_optimal_lr(
    batch_sizes: ArrayLike,
    slices: Sequence[LRSliceFit],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
) -> OptimalLRFit:
    """Fit the laws of the best LR against the batch size, choose one, and mix them for predictions.

    Parameters
    ----------
    batch_sizes : array-like of shape (n,)
        Global batch size of each slice, positive; the unit is the caller's and stays that of every prediction.
    slices : sequence of LRSliceFit, length n
        Fitted slices. Status `ok` enters with its vertex and variance; a censored slice enters as a one-sided term (its
        optimum lies above or below a bound), because dropping it would bend the law; the others are left out.
    confidence : float, optional
        Of all intervals. Defaults to 0.95.
    resamples : int, optional
        Draws, at least 100. Defaults to 1000.
    random_seed : int, optional
        Seed of the draws. Defaults to 0.

    Returns
    -------
    OptimalLRFit
        Status `ok` needs three usable slices, two of them not censored, at three batch sizes.

    Raises
    ------
    LrscaleError
        When lengths differ or a batch size is not a positive number.

    Notes
    -----
    Each slice has its vertex variance plus a common lack-of-fit variance, estimated from the most flexible law that the
    data carry (Paule and Mandel 1982), at least (5 %)^2. A law with k parameters is a candidate when n - k - 1 > 0. A
    law is ruled out by a likelihood-ratio test against a better law with more parameters, or when a law with as many is
    20 times likelier. Among the others the lowest AICc is chosen, and within 2 of it the lowest leave-one-out error.

    References
    ----------
    .. [1] Burnham, Anderson. "Model Selection and Multimodel Inference." Springer (2002), for AICc and Akaike weights.
    .. [2] Paule, Mandel. "Consensus Values and Weighting Factors." J. Res. NBS 87 (1982).

    Examples
    --------
    >>> from lrscale.laws.slice import fit_lr_slice
    >>> lr = [2.0**-k for k in range(12, 4, -1)]
    >>> slices = []
    >>> for batch in (16, 64, 256, 1024):
    ...     best = 0.016 / (1 + 128 / batch)
    ...     slices.append(fit_lr_slice(lr, [best / x + x / best for x in lr]))
    >>> fit = fit_optimal_lr([16, 64, 256, 1024], slices)
    >>> fit.law, fit.row("linear").verdict
    ('saturating', 'ruled out')
    """
    check_confidence(confidence)
    if resamples < 100:
        raise LrscaleError(f"resamples {resamples} is below 100", hint="intervals need at least 100 draws")
    sizes = np.atleast_1d(np.asarray(batch_sizes, dtype=np.float64))
    if sizes.ndim != 1 or sizes.size != len(slices):
        raise LrscaleError(
            f"{sizes.size} batch sizes for {len(slices)} slices", hint="give one batch size for each slice"
        )
    for row, size in enumerate(sizes):
        if not (math.isfinite(size) and size > 0):
            raise LrscaleError(f"row {row}: batch size {size} is not a positive number", hint="drop or mend the slice")
    used = [i for i, own in enumerate(slices) if _usable(own)]
    empty = _empty(sizes, slices, used, confidence)
    data = _vertices(sizes, slices, used)
    observed = int(np.sum(data.side == 0))
    if observed < 2 or len(used) < 3 or np.unique(data.batch).size < 3:
        status, reason = _too_little(data, len(slices))
        return replace(empty, status=status, reason=reason)
    rng = np.random.default_rng(random_seed)
    laws = [law for law in OPTIMAL_LR_LAWS.values() if law.n_parameters < np.unique(data.batch).size]
    laws = [law for law in laws if law.n_parameters <= observed]
    data, lack_sd, lack_df = _with_lack_of_fit(laws, data)
    fits = {law.name: fit_law(law, data) for law in laws}
    replicates = _replicates(data, slices, used, lack_sd, lack_df, resamples, rng)
    drawn = {law.name: fit_law(law, data, replicates) for law in laws}
    p_values = {law.name: _p_value(law, laws, fits, lack_df, confidence) for law in laws}
    out = {name for name, p in p_values.items() if p is not None and p < 1 - confidence}
    alive = [law for law in laws if law.name not in out] or laws
    weights = _akaike_weights(alive, fits)
    table = tuple(
        LawRow(
            law=law.name,
            parameters=_parameters(law, fits[law.name], drawn[law.name], confidence),
            aicc=_aicc(law, fits[law.name], data.y.size),
            weight=weights.get(law.name, 0.0),
            loo_error=_number(leave_one_out(law, data)),
            p_value=p_values[law.name],
            verdict=_verdict(law.name, out, p_values),
        )
        for law in laws
    )
    ranked = _ranked([row for row in table if row.weight > 0 and row.aicc is not None])
    if not ranked:
        reason = f"{len(used)} slices are too few for every law that they do not rule out: add batch sizes."
        return replace(empty, status=FitStatus.TOO_FEW_POINTS, reason=reason, table=table)
    chosen, second = ranked[0], (ranked[1] if len(ranked) > 1 else None)
    knee, knee_interval = _knee(table)
    result = replace(
        empty,
        status=FitStatus.OK,
        law=chosen.law,
        runner_up=second.law if second else None,
        aicc_difference=(second.aicc or 0.0) - (chosen.aicc or 0.0) if second else None,
        table=table,
        knee=knee,
        knee_interval=knee_interval,
        lack_of_fit_sd=lack_sd,
        draws=_mixture(weights, drawn, resamples),
        reason=_reason(chosen, second, data, observed),
    )
    return replace(result, fitted=tuple(float(value) for value in result.predict(sizes)[0]))


def _usable(own: LRSliceFit) -> bool:
    return own.vertex is not None and own.status in (FitStatus.OK, FitStatus.CENSORED_HIGH, FitStatus.CENSORED_LOW)


def _vertices(sizes: FloatArray, slices: Sequence[LRSliceFit], used: list[int]) -> Vertices:
    y, variance, side = [], [], []
    for i in used:
        own = slices[i]
        draws = np.asarray(own.vertex_draws)
        low, high = np.percentile(draws, [15.87, 84.13])
        vertex = own.vertex or 0.0
        trained = [math.log(lr) for lr, loss in zip(own.lr, own.loss, strict=True) if loss is not None]
        if own.status is FitStatus.CENSORED_HIGH:
            # The bound is the grid's end, or the fitted vertex when noise alone put the lowest mean at the end.
            vertex = min(vertex, max(trained))
            spread = vertex - float(np.percentile(draws, 15.87))
            side.append(1)
        elif own.status is FitStatus.CENSORED_LOW:
            vertex = max(vertex, min(trained))
            spread = float(np.percentile(draws, 84.13)) - vertex
            side.append(-1)
        else:
            spread = (high - low) / 2
            side.append(0)
        y.append(vertex)
        variance.append(max(spread, 0.0) ** 2 + LACK_OF_FIT_FLOOR**2)
    return Vertices(batch=sizes[used], y=np.array(y), variance=np.array(variance), side=np.array(side, dtype=np.int_))


def _with_lack_of_fit(laws: Sequence[AbstractLaw], data: Vertices) -> tuple[Vertices, float, int]:
    """Add to every variance what brings the chi-squared of the most flexible law down to its degrees of freedom."""
    observed = int(np.sum(data.side == 0))
    tests = [(law, observed - law.n_parameters) for law in laws if observed > law.n_parameters]
    if not tests:
        return data, LACK_OF_FIT_FLOOR, 0

    def ratio(extra: float) -> tuple[float, int]:
        wider = replace(data, variance=data.variance + extra)
        found = [(chi_squared(law, wider, fit_law(law, wider).params[0]) / df, df) for law, df in tests]
        return min(found)

    if ratio(0.0)[0] <= 1:
        return data, LACK_OF_FIT_FLOOR, 0
    low, high = 0.0, 1e-4
    while ratio(high)[0] > 1 and high < 100:
        low, high = high, high * 4
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(middle)[0] > 1 else (low, middle)
    extra = replace(data, variance=data.variance + high)
    return extra, math.sqrt(high + LACK_OF_FIT_FLOOR**2), ratio(high)[1]


def _replicates(
    data: Vertices,
    slices: Sequence[LRSliceFit],
    used: list[int],
    lack_sd: float,
    lack_df: int,
    count: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Draw the vertices again: each slice's own draws, independently, plus lack of fit.

    A lack-of-fit variance estimated with few degrees of freedom is itself drawn (scaled inverse chi-squared), which
    makes the errors t-distributed.
    """
    rows = np.repeat(data.y[None, :], count, axis=0)
    scale = np.full(count, lack_sd)
    if lack_df > 0:
        scale = lack_sd * np.sqrt(lack_df / rng.chisquare(lack_df, count))
    for column, i in enumerate(used):
        if data.side[column] == 0:
            draws = np.asarray(slices[i].vertex_draws)
            error = rng.choice(draws, count) - np.median(draws) + scale * rng.standard_normal(count)
            rows[:, column] += np.clip(error, -_FARTHEST, _FARTHEST)
    return rows


def _deviance(fits: LawEstimates) -> float:
    return -2 * float(fits.log_likelihood[0])


def _aicc(law: AbstractLaw, fits: LawEstimates, n: int) -> float | None:
    k = law.n_parameters
    return _deviance(fits) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n - k - 1 > 0 else None


def _p_value(
    law: AbstractLaw,
    laws: Sequence[AbstractLaw],
    fits: dict[str, LawEstimates],
    lack_df: int,
    confidence: float,
) -> float | None:
    """Return the smallest p-value of the law against a better one.

    The laws with one parameter are special or limiting cases of those with more. Against a law with as many parameters
    a deviance difference d is read as 95 % evidence at d = 6 (likelihood ratio 20), by scaling it to the chi-squared
    scale.
    """
    found = []
    critical = float(fdtri(1, 1e9, confidence))
    for other in laws:
        gain = max(_deviance(fits[law.name]) - _deviance(fits[other.name]), 0.0)
        extra = other.n_parameters - law.n_parameters
        if extra == 0 and other is not law and law.n_parameters > 1:
            extra, gain = 1, gain * critical / (2 * math.log(1 / (1 - confidence)))
        if extra > 0:
            found.append(float(fdtrc(extra, lack_df, gain / extra)) if lack_df else float(chdtrc(extra, gain)))
    return min(found) if found else None


def _akaike_weights(laws: Sequence[AbstractLaw], fits: dict[str, LawEstimates]) -> dict[str, float]:
    # AIC, not AICc: the variances are given, not estimated from the residuals, and AICc would leave out the free
    # exponent at three batch sizes, where predictions need it most.
    score = np.array([_deviance(fits[law.name]) + 2 * law.n_parameters for law in laws])
    weight = np.exp(-0.5 * (score - score.min()))
    return {law.name: float(value) for law, value in zip(laws, weight / weight.sum(), strict=True)}


def _verdict(name: str, out: set[str], p_values: dict[str, float | None]) -> Verdict:
    if name in out:
        return "ruled out"
    if p_values[name] is None and name in _RULES:
        return "cannot tell"
    rivals = [rule for rule in _RULES if rule != name and rule in p_values]
    return "consistent" if name not in _RULES or all(rule in out for rule in rivals) else "cannot tell"


def _parameters(
    law: AbstractLaw, fits: LawEstimates, drawn: LawEstimates, confidence: float
) -> tuple[tuple[str, float, Interval], ...]:
    tail = (1 - confidence) / 2
    rows = []
    for i, parameter in enumerate(law.parameters):
        lo, hi = (float(value) for value in np.quantile(drawn.params[:, i], [tail, 1 - tail]))
        open_lo = i == 1 and float(drawn.at_low_end.mean()) > tail
        open_hi = i == 1 and float(drawn.at_high_end.mean()) > tail
        # With the knee unbounded above, lr_max has no upper bound either.
        if i == 0 and law.log_spaced and float(drawn.at_high_end.mean()) > tail:
            open_hi = True
        interval = Interval(None if open_lo else lo, None if open_hi else hi, confidence)
        rows.append((parameter.name, float(fits.params[0, i]), interval))
    return tuple(rows)


def _knee(table: Sequence[LawRow]) -> tuple[float | None, Interval | None]:
    for row in table:
        if row.law == "saturating":
            _, value, interval = row.parameters[1]
            return (value if interval.bounded else None), interval
    return None, None


def _ranked(rows: Sequence[LawRow]) -> list[LawRow]:
    """Sort by AICc; those within 2 of the lowest by leave-one-out error."""
    if not rows:
        return []
    best = min(row.aicc or 0.0 for row in rows)
    near = [row for row in rows if (row.aicc or 0.0) - best < _TIE]
    near.sort(key=lambda row: row.loo_error if row.loo_error is not None else math.inf)
    return near + sorted((row for row in rows if row not in near), key=lambda row: row.aicc or 0.0)


def _mixture(
    weights: dict[str, float], drawn: dict[str, LawEstimates], count: int
) -> tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]:
    parts = []
    for name, weight in weights.items():
        share = round(weight * min(count, 1000))
        if share:
            rows = drawn[name].params[:share]
            parts.append((name, tuple(tuple(float(f"{value:.7g}") for value in row) for row in rows)))
    return tuple(parts)


def _reason(chosen: LawRow, second: LawRow | None, data: Vertices, observed: int) -> str:
    text = (
        f"{chosen.law} describes {observed} slices"
        f"{f' and {data.y.size - observed} censored ones' if data.y.size > observed else ''} "
        f"from batch size {data.batch.min():g} to {data.batch.max():g}"
    )
    if second is None:
        return text + "; no other law is left."
    difference = (second.aicc or 0.0) - (chosen.aicc or 0.0)
    close = abs(difference) < _TIE
    return text + f"; {second.law} is {'as good' if close else f'worse by {difference:.1f} in AICc'}."


def _too_little(data: Vertices, given: int) -> tuple[FitStatus, str]:
    if data.y.size >= 2 and np.all(data.side == 1):
        return FitStatus.CENSORED_HIGH, "In every slice the loss still falls at the highest LR."
    if data.y.size >= 2 and np.all(data.side == -1):
        return FitStatus.CENSORED_LOW, "In every slice the loss still falls at the lowest LR."
    reason = (
        f"{int(np.sum(data.side == 0))} of {given} slices have a located optimum and {int(np.sum(data.side != 0))} are "
        "censored; a law needs three usable slices at three batch sizes, two of them located."
    )
    return FitStatus.TOO_FEW_POINTS, reason


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _empty(sizes: FloatArray, slices: Sequence[LRSliceFit], used: list[int], confidence: float) -> OptimalLRFit:
    data = _vertices(sizes, slices, used)
    lrs: list[float | None] = [None] * sizes.size
    for i, value in zip(used, data.y, strict=True):
        lrs[i] = math.exp(value)
    return OptimalLRFit(
        status=FitStatus.TOO_FEW_POINTS,
        reason="",
        law=None,
        runner_up=None,
        aicc_difference=None,
        table=(),
        knee=None,
        knee_interval=None,
        lack_of_fit_sd=None,
        batch_sizes=tuple(float(size) for size in sizes),
        best_lrs=tuple(lrs),
        slice_status=tuple(own.status.value for own in slices),
        fitted=(None,) * sizes.size,
        draws=(),
        confidence=confidence,
    )
