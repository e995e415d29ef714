"""Fit the final loss against model size and training data."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, Interval, check_confidence
from lrscale.laws.scale.loss import CHINCHILLA, POWER_DECAY, POWER_OFFSET, POWER_SUM
from lrscale.laws.scale.loss_check import cross_validate, hold_out_largest, rank, serial_correlation
from lrscale.laws.scale.loss_data import Direction, LossData, direction, distinct, read_losses
from lrscale.laws.scale.loss_draws import draw
from lrscale.laws.separable import AbstractSeparableLaw, Inputs
from lrscale.laws.separable_fit import Estimate, LawFit
from lrscale.laws.varpro import Residual, Solution, solve

Estimator = Literal["huber_log", "least_squares"]
"""``"huber_log"``: Huber's loss of log residuals; ``"least_squares"``: squares of raw residuals."""

# Clusters beyond the number of parameters without which a bootstrap has no quantiles to offer.
_SPARE = 3
_DISTINCT = 3
_FURTHER = 10.0
_KEPT_DRAWS = 500
_CURVE = 0.5


def fit_loss_scaling(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: Sequence[float | None] | ArrayLike,
    *,
    cluster: Sequence[Hashable] | ArrayLike | None = None,
    delta: float | None = None,
    estimator: Estimator = "huber_log",
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
    holdout: bool = True,
) -> LawFit:
    """Fit ``loss = E + A / params^alpha + B / tokens^beta`` to final losses.

    Parameters
    ----------
    params : array-like of shape (n,)
        Model size of each run, positive; with or without embeddings, but the same for all.
    tokens : array-like of shape (n,)
        Data seen by each run, positive, in any unit. A checkpoint of a run whose LR was still to decay is no valid run.
    loss : array-like of shape (n,)
        Final loss of each run, positive. None, NaN or infinite: the run diverged and is left out.
    cluster : sequence of shape (n,), optional
        What shares its noise: the run of each point when several points come from one run. Defaults to the cell
        (params, tokens) of each run. Points of one curve in different clusters make the intervals too narrow.
    delta : float, optional
        Threshold of Huber's loss in ln(loss), for example the 1e-3 of Hoffmann et al. Defaults to 1.345 robust standard
        deviations of the residuals.
    estimator : {"huber_log", "least_squares"}, optional
        Defaults to ``"huber_log"``. The exponents of the other one are in the notes: the difference is uncertainty
        about the model that no interval counts.
    confidence : float, optional
        Of all intervals. Defaults to 0.95.
    resamples : int, optional
        Bootstrap resamples, at least 100. Defaults to 1000.
    random_seed : int, optional
        Seed of the resamples. Defaults to 0.
    holdout : bool, optional
        Whether to fit once more without the cells of the largest compute and report the miss. Defaults to True.

    Returns
    -------
    LawFit
        Law ``"chinchilla"``, with the derived exponent ``a`` of the compute-optimal model size and the loss at ten
        times the largest params and tokens; or ``"power_offset"`` (input ``size``) when the runs vary only one of
        params and tokens, or both along a line. Status `not_identifiable` when the floor E cannot be told from 0: its
        value is then None, and the extrapolated loss with its interval is what the data say.

    Raises
    ------
    LrscaleError
        When columns differ in length, or a value is not a positive number; the message names the row.

    Notes
    -----
    Intervals are percentiles of fits to losses drawn about the law, with noise of one size for all clusters and the
    tails of Student's t for few of them. Where a cluster has points at several places, they are those of a Bayesian
    bootstrap over clusters.

    References
    ----------
    .. [1] Hoffmann et al. "Training Compute-Optimal Large Language Models." arXiv:2203.15556 (2022).
    .. [2] Besiroglu et al. "Chinchilla Scaling: A replication attempt." arXiv:2404.10102 (2024).

    Examples
    --------
    >>> size, data = (axis.ravel() for axis in np.meshgrid([5e7, 2e8, 8e8, 3e9], [1e9, 4e9, 1.6e10, 6.4e10]))
    >>> fit = fit_loss_scaling(size, data, 1.8 + 480 / size**0.35 + 2080 / data**0.37, resamples=100)
    >>> fit.law, round(fit.estimate("alpha").value, 4), round(fit.estimate("a").value, 4)
    ('chinchilla', 0.35, 0.5139)
    """
    check_confidence(confidence)
    if resamples < 100:
        raise LrscaleError(f"resamples {resamples} is below 100", hint="intervals need at least 100 draws")
    if estimator not in ("huber_log", "least_squares"):
        raise LrscaleError(f"unknown estimator {estimator!r}", hint='use "huber_log" or "least_squares"')
    if delta is not None and not delta > 0:
        raise LrscaleError(f"delta {delta} is not positive", hint="it is a threshold in ln(loss), such as 1e-3")
    data = read_losses(params, tokens, loss, cluster)
    varied, why = direction(data)
    model = _Model.of(varied, data)
    kind: Residual = "log" if estimator == "huber_log" else "linear"
    threshold = delta if estimator == "huber_log" else np.inf
    empty = LawFit(
        law=model.law.name,
        formula=model.law.formula,
        status=FitStatus.TOO_FEW_POINTS,
        reason="",
        n_points=data.loss.size,
        n_clusters=data.n_clusters,
        residual_kind=kind,
        observed=tuple(data.loss.tolist()),
        inputs={name: tuple(own.tolist()) for name, own in model.x.items()},
        confidence=confidence,
    )
    refusal = _too_little(data, model)
    if refusal is not None:
        return replace(empty, status=refusal[0], reason=refusal[1])
    found = solve(model.law, model.x, data.loss, residual=kind, delta=threshold)
    draws = draw(
        model.law,
        model.x,
        data.loss,
        data.clusters,
        found,
        residual=kind,
        confidence=confidence,
        resamples=resamples,
        rng=np.random.default_rng(random_seed),
    )
    fit = _with_numbers(empty, model, data, found, draws)
    status, reason = _status(model, data, found, fit, why)
    runner_up, own, difference = rank(model.law, model.rivals, data, model.x, found, kind)
    notes = _notes(model, data, found, kind)
    if runner_up is not None and difference is not None and difference < 0:
        notes = (*notes, f"{runner_up} describes the runs as well with fewer parameters (AICc {difference:+.1f}).")
    return replace(
        fit,
        status=status,
        reason=reason,
        estimates=_withheld(fit.estimates, status),
        aicc=own,
        runner_up=runner_up,
        aicc_difference=difference,
        group_error=cross_validate(model.law, data, model.x, found, kind),
        holdout=hold_out_largest(model.law, data, model.x, kind, threshold, confidence) if holdout else None,
        notes=notes,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """The law that the design can carry, its variables, and its simpler rivals."""

    law: AbstractSeparableLaw
    x: Inputs
    varied: Direction
    rivals: tuple[tuple[str, AbstractSeparableLaw, Inputs], ...]
    """(what it is called, law, its variables)"""

    @classmethod
    def of(cls, varied: Direction, data: LossData) -> _Model:
        sizes: dict[str, Inputs] = {name: {"size": data.x[name]} for name in ("params", "tokens")}
        if varied == "both":
            rivals: tuple[tuple[str, AbstractSeparableLaw, Inputs], ...] = (
                (POWER_SUM.name, POWER_SUM, data.x),
                (f"{POWER_OFFSET.name} in params", POWER_OFFSET, sizes["params"]),
                (f"{POWER_OFFSET.name} in tokens", POWER_OFFSET, sizes["tokens"]),
            )
            return cls(law=CHINCHILLA, x=data.x, varied=varied, rivals=rivals)
        x = sizes[varied]
        return cls(law=POWER_OFFSET, x=x, varied=varied, rivals=((POWER_DECAY.name, POWER_DECAY, x),))

    @property
    def exponents(self) -> tuple[str, ...]:
        return tuple(self.law.parameters[i].name for i in self.law.shaping)

    def further(self) -> tuple[Inputs, str]:
        """Return the point of extrapolation, and what it is."""
        names = " and ".join(self.law.inputs if self.varied == "both" else (self.varied,))
        return {name: np.array([_FURTHER * own.max()]) for name, own in self.x.items()}, names


def _too_little(data: LossData, model: _Model) -> tuple[FitStatus, str] | None:
    if not data.loss.size:
        return FitStatus.ALL_DIVERGED, f"None of {data.n_dropped} runs has a finite loss."
    need = model.law.n_parameters + _SPARE
    if data.n_clusters < need:
        return FitStatus.TOO_FEW_POINTS, (
            f"{data.n_clusters} cells or clusters for {model.law.n_parameters} parameters; intervals need {need}."
        )
    for name in ("params", "tokens") if model.varied == "both" else (model.varied,):
        if distinct(data.x[name]) < _DISTINCT:
            return FitStatus.NOT_IDENTIFIABLE, (
                f"{name} has {distinct(data.x[name])} distinct values; its exponent needs {_DISTINCT}."
            )
    if np.ptp(data.loss) <= 1e-13 * np.max(data.loss):
        return FitStatus.NOT_IDENTIFIABLE, "All losses are equal."
    return None


def _with_numbers(empty: LawFit, model: _Model, data: LossData, found: Solution, draws: FloatArray) -> LawFit:
    law, confidence = model.law, empty.confidence
    tail = (1 - confidence) / 2

    def interval(values: FloatArray) -> Interval:
        # Plotting positions i / (n + 1): the usual quantiles of 300 draws leave 5.6 % outside instead of 5 %.
        lo, hi = np.quantile(values, [tail, 1 - tail], method="weibull")
        return Interval(float(lo), float(hi), confidence)

    estimates = tuple(
        Estimate(
            name=parameter.name,
            value=float(value),
            interval=interval(draws[:, i]),
            unit=parameter.unit,
            meaning=parameter.meaning,
        )
        for i, (parameter, value) in enumerate(zip(law.parameters, found.params, strict=True))
    )
    point, names = model.further()
    ahead = law.evaluate(np.vstack([found.params[None], draws]), point)[:, 0]
    derived = [
        Estimate(
            name="loss_10x",
            value=float(ahead[0]),
            interval=interval(ahead[1:]),
            unit="loss",
            meaning=f"loss at ten times the largest {names}",
        )
    ]
    meaning = "exponent of the compute-optimal params against compute"
    if law is CHINCHILLA:
        share = draws[:, 4] / (draws[:, 2] + draws[:, 4])
        value = float(found.params[4] / (found.params[2] + found.params[4]))
        derived.insert(0, Estimate(name="a", value=value, interval=interval(share), meaning=meaning))
    else:
        derived.insert(0, Estimate(name="a", value=None, interval=None, meaning=meaning))
    df = max(data.loss.size - law.n_parameters, 1)
    return replace(
        empty,
        estimates=estimates,
        derived=tuple(derived),
        residual_sd=math.sqrt(float(found.residuals @ found.residuals) / df),
        fitted=tuple(law.evaluate(found.params[None], model.x)[0].tolist()),
        draws=tuple(tuple(float(f"{value:.9g}") for value in row) for row in draws[:_KEPT_DRAWS]),
    )


def _status(model: _Model, data: LossData, found: Solution, fit: LawFit, why: str) -> tuple[FitStatus, str]:
    text = f"{data.loss.size} runs in {data.n_clusters} clusters, residual sd {fit.residual_sd or 0.0:.2g}."
    if why:
        text = f"{text} {why[0].upper()}{why[1:]}"
    gone = [name for name in found.at_bound if name != "E"]
    if gone:
        return FitStatus.NOT_IDENTIFIABLE, f"{' and '.join(gone)} ended at a bound. {text}"
    for name in model.exponents:
        one = fit.estimate(name)
        parameter = next(own for own in model.law.parameters if own.name == name)
        assert one.interval is not None and one.interval.lo is not None and one.interval.hi is not None
        if one.interval.lo <= parameter.lower * 1.01 or one.interval.hi >= parameter.upper * 0.99:
            return FitStatus.NOT_IDENTIFIABLE, f"{name} can be anything ({one.interval.text()}). {text}"
    floor = fit.estimate("E")
    assert floor.interval is not None
    if floor.interval.lo is None or floor.interval.lo <= 0:
        ahead = fit.estimate("loss_10x")
        return FitStatus.NOT_IDENTIFIABLE, (
            f"The floor E cannot be told from 0 ({floor.interval.text()}); {ahead.meaning}: {ahead.text()}. {text}"
        )
    return FitStatus.OK, text


def _withheld(estimates: tuple[Estimate, ...], status: FitStatus) -> tuple[Estimate, ...]:
    """Open the floor's interval downwards, and withhold its value, where it reaches 0."""
    if status is FitStatus.OK:
        return estimates

    def mend(one: Estimate) -> Estimate:
        if one.name != "E" or one.interval is None or (one.interval.lo or 0.0) > 0:
            return one
        return replace(one, value=None, interval=Interval(None, one.interval.hi, one.interval.confidence))

    return tuple(mend(one) for one in estimates)


def _notes(model: _Model, data: LossData, found: Solution, kind: Residual) -> tuple[str, ...]:
    notes = []
    if data.n_dropped:
        notes.append(f"{data.n_dropped} runs without a finite loss were left out.")
    other: Residual = "linear" if kind == "log" else "log"
    second = solve(
        model.law, model.x, data.loss, residual=other, delta=np.inf if other == "linear" else None, check=False
    )
    said = {
        own: ", ".join(f"{name} {params[i]:.3f}" for i, name in zip(model.law.shaping, model.exponents, strict=True))
        for own, params in ((kind, found.params), (other, second.params))
    }
    notes.append(
        f"Huber on log residuals gives {said['log']}; least squares on the loss {said['linear']}: the difference is "
        "uncertainty about the model, and not in the intervals."
    )
    if model.varied != "both":
        notes.append(f"size is {model.varied}.")
    correlation = serial_correlation(data, found.residuals)
    if correlation is not None and correlation > _CURVE:
        notes.append(
            f"Residuals of neighbouring tokens of one model size correlate by {correlation:.2f} across clusters, as "
            "points of one curve do: if they are, give the run as cluster, or the intervals are too narrow."
        )
    return tuple(notes)
