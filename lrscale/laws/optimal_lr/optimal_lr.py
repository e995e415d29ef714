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
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.optimal_lr.law_fit import (
    LawEstimate,
    Vertices,
    best_log_amplitude,
    chi_squared,
    fit_law,
    leave_one_out,
)
from lrscale.laws.optimal_lr.law_mixture import mixed_draws
from lrscale.laws.optimal_lr.law_posterior import LawPosterior, law_posterior, parameter_interval
from lrscale.laws.optimal_lr.optimal_lr_fit import LawRow, OptimalLRFit, RuleRange, Verdict
from lrscale.laws.optimal_lr.shared_noise import posteriors_together
from lrscale.laws.optimal_lr.vertex_density import VertexDensity, vertex_density

# A law is not believed to better than 5 % of the LR at one batch size, however small the slices' own errors are.
LACK_OF_FIT_FLOOR = 0.05
_RULES = {"constant": 0.0, "square_root": 0.5, "linear": 1.0}
_RULE_POINTS = 65
# A slope that is off by 0.1 moves the best LR by 15 % when the batch size quadruples, less than one step of a sweep.
_SAME_SLOPE = 0.1
_TIE = 2.0
# Deviance of a likelihood ratio of 20.
_TWENTY_TIMES = 2 * math.log(20.0)
# A decline past the knee must be seen before it is believed: below its knee the surge is the square-root rule.
_ON_EVIDENCE = ("surge",)
# In ln(LR): the error of the basin's shape that all slices of a study share beyond what their posteriors say, and more
# slices do not average away. Over eight shapes in simulations its root mean square was 0.03
# (benchmarks/coverage_laws.py).
_SHARED_SD = 0.03
_MOST_DRAWS = 1000
# How far from its best value a law's amplitude is looked for, in ln(LR), besides ten standard deviations of a slice.
_REACH = 3.0


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
    Choice: each slice has its vertex variance plus a common lack-of-fit variance, estimated from the most flexible law
    that the data carry (Paule and Mandel 1982), at least (5 %)^2. A law with k parameters is a candidate when
    n - k - 1 > 0. A law is ruled out by a likelihood-ratio test against a better law with more parameters, or when a
    law with as many is 20 times likelier. Among the others the lowest AICc is chosen, and within 2 of it the lowest
    leave-one-out error. The surge takes part only when it is 20 times likelier than every other law that is not ruled
    out: below its knee it is the square-root rule, and a decline should be seen before it is believed.

    Prediction: the posterior of each law on a grid, from the runs of all slices together. The slices lend each other
    their noise (`posteriors_together`) and share the shape of their basins as far as they agree on one; how much of
    their spread differs between slices, and how far the optima scatter about the law, the data decide
    (`VertexDensity`). The laws with two parameters that are not ruled out are mixed by their likelihoods.
    The rules with one parameter are left out, since they would lend a slope that was assumed; the free steepness comes
    in when every law with two parameters is ruled out.

    References
    ----------
    .. [1] Burnham, Anderson. "Model Selection and Multimodel Inference." Springer (2002), for AICc.
    .. [2] Paule, Mandel. "Consensus Values and Weighting Factors." J. Res. NBS 87 (1982).

    Examples
    --------
    >>> from lrscale.laws.lr_slice.slice import fit_lr_slice
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
    data, spread = _vertices(sizes, slices, used)
    observed = int(np.sum(data.side == 0))
    if observed < 2 or len(used) < 3 or np.unique(data.batch).size < 3:
        status, reason = _too_little(data, len(slices))
        return replace(empty, status=status, reason=reason)
    rng = np.random.default_rng(random_seed)
    laws = [law for law in OPTIMAL_LR_LAWS.values() if law.n_parameters < np.unique(data.batch).size]
    laws = [law for law in laws if law.n_parameters <= observed]
    data, lack_sd, lack_df = _with_lack_of_fit(laws, data)
    fits = {law.name: fit_law(law, data) for law in laws}
    posteriors = posteriors_together([slices[i] for i in used])
    density = vertex_density(data, posteriors, spread)
    drawn = {law.name: _posterior(law, data, density, fits[law.name], resamples, rng, confidence) for law in laws}
    p_values = {law.name: _p_value(law, laws, fits, lack_df, confidence) for law in laws}
    out = {name for name, p in p_values.items() if p is not None and p < 1 - confidence}
    alive = _admitted([law for law in laws if law.name not in out] or laws, fits)
    weights = _weights(alive, fits)
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
    names = {law.name for law in alive}
    ranked = _ranked([row for row in table if row.law in names and row.aicc is not None])
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
        draws=mixed_draws(weights, {name: own.params for name, own in drawn.items()}, min(resamples, _MOST_DRAWS)),
        reason=_reason(chosen, second, data, observed),
    )
    fitted = tuple(float(value) for value in result.predict(sizes)[0])
    return replace(result, fitted=fitted, rules=_rules(result, data.batch))


def _usable(own: LRSliceFit) -> bool:
    return own.vertex is not None and own.status in (FitStatus.OK, FitStatus.CENSORED_HIGH, FitStatus.CENSORED_LOW)


def _vertices(sizes: FloatArray, slices: Sequence[LRSliceFit], used: list[int]) -> tuple[Vertices, FloatArray]:
    y, spreads, side = [], [], []
    for i in used:
        own = slices[i]
        draws = np.asarray(own.vertex_draws)
        low, high = np.percentile(draws, [15.87, 84.13])
        vertex = own.vertex or 0.0
        trained = [math.log(lr) for lr, loss in zip(own.lr, own.loss, strict=True) if loss is not None]
        if own.status is FitStatus.CENSORED_HIGH:
            # The bound is the grid's end, or the fitted vertex when noise alone put the lowest mean at the end.
            vertex = min(vertex, max(trained))
            own_spread = vertex - float(np.percentile(draws, 15.87))
            side.append(1)
        elif own.status is FitStatus.CENSORED_LOW:
            vertex = max(vertex, min(trained))
            own_spread = float(np.percentile(draws, 84.13)) - vertex
            side.append(-1)
        else:
            own_spread = float(high - low) / 2
            side.append(0)
        y.append(vertex)
        spreads.append(max(own_spread, 0.0))
    spread = np.array(spreads)
    variance = spread**2 + LACK_OF_FIT_FLOOR**2
    data = Vertices(batch=sizes[used], y=np.array(y), variance=variance, side=np.array(side, dtype=np.int_))
    return data, spread


def _with_lack_of_fit(laws: Sequence[AbstractLaw], data: Vertices) -> tuple[Vertices, float, int]:
    """Add to every variance what brings the chi-squared of the most flexible law down to its degrees of freedom."""
    observed = int(np.sum(data.side == 0))
    tests = [(law, observed - law.n_parameters) for law in laws if observed > law.n_parameters]
    if not tests:
        return data, LACK_OF_FIT_FLOOR, 0

    def ratio(extra: float) -> tuple[float, int]:
        wider = replace(data, variance=data.variance + extra)
        found = [(chi_squared(law, wider, fit_law(law, wider).params) / df, df) for law, df in tests]
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


def _posterior(
    law: AbstractLaw,
    data: Vertices,
    density: VertexDensity,
    through: LawEstimate,
    count: int,
    rng: np.random.Generator,
    confidence: float,
) -> LawPosterior:
    def locate(log_shape: FloatArray) -> FloatArray:
        return best_log_amplitude(log_shape, data)

    reach = _REACH + 10 * math.sqrt(float(np.mean(data.variance)))
    # The likelihood-ratio bound of one parameter.
    fraction = math.exp(-0.5 * float(fdtri(1, 1e9, confidence)))
    found = law_posterior(
        law,
        data.batch,
        density,
        locate,
        reach,
        draws=min(count, _MOST_DRAWS),
        rng=rng,
        fraction=fraction,
        guess=through.params,
    )
    assert found is not None  # a density of vertices is positive everywhere
    params = found.params.copy()
    params[:, 0] *= np.exp(np.hypot(_SHARED_SD, density.shared[found.hidden]) * rng.standard_normal(len(params)))
    return replace(found, params=params)


def _deviance(fits: LawEstimate) -> float:
    return -2 * fits.log_likelihood


def _aicc(law: AbstractLaw, fits: LawEstimate, n: int) -> float | None:
    k = law.n_parameters
    return _deviance(fits) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n - k - 1 > 0 else None


def _p_value(
    law: AbstractLaw,
    laws: Sequence[AbstractLaw],
    fits: dict[str, LawEstimate],
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
            extra, gain = 1, gain * critical / _TWENTY_TIMES
        if extra > 0:
            found.append(float(fdtrc(extra, lack_df, gain / extra)) if lack_df else float(chdtrc(extra, gain)))
    return min(found) if found else None


def _admitted(laws: Sequence[AbstractLaw], fits: dict[str, LawEstimate]) -> list[AbstractLaw]:
    """Return the laws without those that need strong evidence and lack it."""
    kept = []
    for law in laws:
        rivals = [other for other in laws if other.name not in _ON_EVIDENCE]
        if law.name not in _ON_EVIDENCE or all(
            _deviance(fits[other.name]) - _deviance(fits[law.name]) >= _TWENTY_TIMES for other in rivals
        ):
            kept.append(law)
    return kept or list(laws)


def _weights(laws: Sequence[AbstractLaw], fits: dict[str, LawEstimate]) -> dict[str, float]:
    """Return shares in predictions: the likelihoods of the laws with two parameters, or of those with more.

    A rule without a free slope would lend predictions a slope that was assumed; in simulations of a power law with an
    exponent of 0.6 that cost 5 % of coverage. The free steepness widens predictions threefold for nothing as long
    as a law with two parameters describes the slices.
    """
    sloped = [law for law in laws if law.n_parameters > 1] or list(laws)
    fewest = min(law.n_parameters for law in sloped)
    taking_part = [law for law in sloped if law.n_parameters == fewest]
    score = np.array([_deviance(fits[law.name]) for law in taking_part])
    weight = np.exp(-0.5 * (score - score.min()))
    return {law.name: float(value) for law, value in zip(taking_part, weight / weight.sum(), strict=True)}


def _verdict(name: str, out: set[str], p_values: dict[str, float | None]) -> Verdict:
    if name in out:
        return "ruled out"
    if p_values[name] is None and name in _RULES:
        return "cannot tell"
    rivals = [rule for rule in _RULES if rule != name and rule in p_values]
    return "consistent" if name not in _RULES or all(rule in out for rule in rivals) else "cannot tell"


def _parameters(
    law: AbstractLaw, fits: LawEstimate, drawn: LawPosterior, confidence: float
) -> tuple[tuple[str, float, Interval], ...]:
    rows = []
    for i, parameter in enumerate(law.parameters):
        interval = parameter_interval(law, drawn, i, confidence)
        value = float(np.median(drawn.params[:, i]))
        if not interval.bounded:
            # The median would depend on how far the search went.
            value = min(max(float(fits.params[i]), interval.lo or -math.inf), interval.hi or math.inf)
        rows.append((parameter.name, value, interval))
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


def _rules(fit: OptimalLRFit, sizes: FloatArray) -> tuple[RuleRange, ...]:
    """Compare each rule's slope with the local slope over the measured range."""
    at = np.geomspace(sizes.min(), sizes.max(), _RULE_POINTS)
    _, lo, hi = fit.local_slope(at)
    rows = []
    for rule, slope in _RULES.items():
        inside = (lo <= slope + _SAME_SLOPE) & (slope - _SAME_SLOPE <= hi)
        # Lengths of the runs of agreement that end at each point.
        length = np.zeros(at.size, dtype=int)
        for i in range(at.size):
            length[i] = (length[i - 1] if i else 0) + 1 if inside[i] else 0
        longest = int(length.max())
        last = int(np.argmax(length))
        first = last - longest + 1
        rows.append(
            RuleRange(
                rule=rule,
                slope=slope,
                lo=float(f"{at[first]:.7g}") if longest else None,
                hi=float(f"{at[last]:.7g}") if longest else None,
                whole=longest == at.size,
            )
        )
    return tuple(rows)


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
    data, _ = _vertices(sizes, slices, used)
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
