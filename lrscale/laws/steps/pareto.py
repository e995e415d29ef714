"""Time against examples: which batch sizes are worth their price, given the time of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, Interval
from lrscale.laws.separable_fit import Estimate
from lrscale.laws.steps.steps_result import StepsFit

# Time and examples as equal as this are one point.
_SAME = 1e-12


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoPoint:
    """What it takes to reach the target with one batch size."""

    batch_size: float
    """In the unit of the fit."""
    seconds_per_step: float
    """Interpolated in logarithms."""
    steps: Estimate
    seconds: Estimate
    """Steps times seconds per step."""
    examples: Estimate
    """Steps times batch size, in the unit of the batch."""
    cost: Estimate
    """Seconds times devices."""
    on_front: bool
    """Whether no other batch size takes less time and no more examples."""
    front_share: float
    """Fraction of the draws in which it is on the front."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        plain: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value.to_dict() if isinstance(value, Estimate) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ParetoPoint:
        """Rebuild the point that `to_dict` wrote."""
        values = dict(data)
        for name in ("steps", "seconds", "examples", "cost"):
            values[name] = Estimate.from_dict(data[name])
        return cls(**values)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto:
    """Time and examples to the target at several batch sizes."""

    status: FitStatus
    """``ok``; ``poor_fit`` when the law misses the steps; the status of a fit that gives no steps."""
    reason: str
    points: tuple[ParetoPoint, ...] = ()
    """In the order of the batch size."""
    fastest: float | None = None
    """Batch size of least time."""
    fastest_interval: Interval | None = None
    """Where it lies among the draws; an end at the first or last batch size considered is None."""
    cheapest: float | None = None
    """Batch size of least cost."""
    knee: float | None = None
    """Batch size on the front farthest below the line between its ends, in logarithms of time and examples
    (Satopaa et al. 2011); None with fewer than three points on the front."""

    @property
    def front(self) -> tuple[ParetoPoint, ...]:
        """The points on the front."""
        return tuple(point for point in self.points if point.on_front)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "status": self.status.value,
            "reason": self.reason,
            "points": [point.to_dict() for point in self.points],
            "fastest": self.fastest,
            "fastest_interval": None if self.fastest_interval is None else self.fastest_interval.to_dict(),
            "cheapest": self.cheapest,
            "knee": self.knee,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pareto:
        """Rebuild the front that `to_dict` wrote."""
        values = dict(data)
        values["status"] = FitStatus(data["status"])
        values["points"] = tuple(ParetoPoint.from_dict(point) for point in data["points"])
        ends = data["fastest_interval"]
        values["fastest_interval"] = None if ends is None else Interval.from_dict(ends)
        return cls(**values)

    def summary(self) -> str:
        """Return the points as text, one batch size a line; a star marks the front."""
        lines = [f"time against examples: {self.status.value}", f"  {self.reason}"]
        if self.points:
            lines.append(f"  {'batch':>10} {'steps':>10} {'seconds':>10} {'examples':>10} {'cost':>10}")
        for point in self.points:
            numbers = [
                f"{one.value:>10.4g}" if one.value is not None else f"{'-':>10}"
                for one in (point.steps, point.seconds, point.examples, point.cost)
            ]
            lines.append(f"  {point.batch_size:>10g} {' '.join(numbers)}{' *' if point.on_front else ''}")
        return "\n".join(lines)


def pareto_front(
    fit: StepsFit,
    batch_sizes: ArrayLike,
    seconds_per_step: ArrayLike,
    *,
    devices: ArrayLike = 1,
    candidates: ArrayLike | None = None,
) -> Pareto:
    """Return the time and the examples to the target at each batch size, and which of them are worth choosing.

    Steps follow the fitted law, time is steps times the seconds of a step, and examples are steps times the batch size.
    Intervals are those of the steps: the time of a step is measured to a few percent, and counts as known.

    Parameters
    ----------
    fit : StepsFit
    batch_sizes : array-like of shape (m,)
        Batch sizes whose step was timed, positive, in the unit of the fit; several times at one are averaged.
    seconds_per_step : array-like of shape (m,)
        Positive. Between batch sizes it is interpolated in logarithms; it is not extrapolated.
    devices : array-like of shape (m,) or a number, optional
        Devices that each timed step used, the factor between time and cost. Defaults to 1: cost is time.
    candidates : array-like of shape (k,), optional
        Batch sizes to compare, within the timed ones. Default None: the timed ones.

    Returns
    -------
    Pareto

    Raises
    ------
    LrscaleError
        For lengths that differ, a value that is not positive, or a candidate outside of the timed batch sizes.

    Examples
    --------
    >>> from lrscale.laws.steps.steps_fit import fit_steps_to_target
    >>> batch = np.array([64, 128, 256, 512, 1024, 2048])
    >>> fit = fit_steps_to_target(batch, 200 + 100_000 / batch)
    >>> found = pareto_front(fit, batch, np.maximum(0.1, 0.1 * batch / 256))
    >>> found.fastest, [point.batch_size for point in found.front]
    (256.0, [64.0, 128.0, 256.0])
    """
    size, seconds, count = _read(batch_sizes, seconds_per_step, devices)
    wanted = size if candidates is None else np.unique(np.atleast_1d(np.asarray(candidates, dtype=np.float64)))
    outside = ~((wanted >= size[0] * (1 - 1e-9)) & (wanted <= size[-1] * (1 + 1e-9)))
    if outside.any():
        raise LrscaleError(
            f"batch size {wanted[outside][0]:g} lies outside of the timed ones, {size[0]:g} to {size[-1]:g}",
            hint="time a step there too",
        )
    if not fit.law.draws:
        return Pareto(status=fit.status, reason=f"no steps without a fitted law: {fit.reason}")
    each = np.exp(np.interp(np.log(wanted), np.log(size), np.log(seconds)))
    machines = np.exp(np.interp(np.log(wanted), np.log(size), np.log(count)))
    steps = fit.predict(wanted)[0]
    draws = fit.draws(wanted)
    confidence = fit.law.confidence
    time, examples = steps * each, steps * wanted
    front = _front(time[None], examples[None])[0]
    share = _front(draws * each, draws * wanted).mean(axis=0)

    def estimate(name: str, i: int, factor: float, unit: str) -> Estimate:
        tail = 50 * (1 - confidence)
        lo, hi = np.percentile(draws[:, i], [tail, 100 - tail]) * factor
        ends = Interval(min(float(lo), steps[i] * factor), max(float(hi), steps[i] * factor), confidence)
        return Estimate(name=name, value=float(steps[i] * factor), interval=ends, unit=unit)

    points = tuple(
        ParetoPoint(
            batch_size=float(wanted[i]),
            seconds_per_step=float(each[i]),
            steps=estimate("steps", i, 1.0, "steps"),
            seconds=estimate("seconds", i, float(each[i]), "s"),
            examples=estimate("examples", i, float(wanted[i]), fit.batch_unit),
            cost=estimate("cost", i, float(each[i] * machines[i]), "device s"),
            on_front=bool(front[i]),
            front_share=float(share[i]),
        )
        for i in range(wanted.size)
    )
    fastest = wanted[int(np.argmin(time))]
    cheapest = wanted[int(np.argmin(time * machines))]
    return Pareto(
        status=FitStatus.POOR_FIT if fit.status is FitStatus.POOR_FIT else FitStatus.OK,
        reason=(
            f"of {wanted.size} batch sizes {int(front.sum())} are worth choosing; {fastest:g} {fit.batch_unit} takes "
            f"the least time, {time.min():.4g} s, and {cheapest:g} costs least"
        ),
        points=points,
        fastest=float(fastest),
        fastest_interval=_where(wanted, np.argmin(draws * each, axis=1), confidence),
        cheapest=float(cheapest),
        knee=_knee(wanted, time, examples, front),
    )


def _read(
    batch_sizes: ArrayLike, seconds_per_step: ArrayLike, devices: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    size = np.atleast_1d(np.asarray(batch_sizes, dtype=np.float64))
    seconds = np.atleast_1d(np.asarray(seconds_per_step, dtype=np.float64))
    count = np.asarray(devices, dtype=np.float64)
    count = np.full(size.shape, float(count)) if count.ndim == 0 else count
    if size.ndim != 1 or not size.size or {seconds.shape, count.shape} != {size.shape}:
        raise LrscaleError(
            f"shapes differ: batch_sizes {size.shape}, seconds_per_step {seconds.shape}, devices {count.shape}",
            hint="give one value of each for each timed batch size",
        )
    for name, values in (("batch size", size), ("seconds per step", seconds), ("devices", count)):
        wrong = ~np.isfinite(values) | (values <= 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise LrscaleError(f"row {row}: {name} {values[row]} is not a positive number", hint="drop or mend it")
    distinct, place = np.unique(size, return_inverse=True)
    runs = np.bincount(place)
    means = [np.exp(np.bincount(place, np.log(values)) / runs) for values in (seconds, count)]
    return distinct, means[0], means[1]


def _front(time: FloatArray, examples: FloatArray) -> NDArray[np.bool_]:
    """Return which points no other betters in one without losing in the other, shape (r, k)."""
    faster = time[:, :, None] < time[:, None, :] * (1 - _SAME)
    fewer = examples[:, :, None] < examples[:, None, :] * (1 - _SAME)
    no_slower = time[:, :, None] <= time[:, None, :] * (1 + _SAME)
    no_more = examples[:, :, None] <= examples[:, None, :] * (1 + _SAME)
    beaten = (faster & no_more) | (fewer & no_slower)
    return np.asarray(~beaten.any(axis=1))


def _where(wanted: FloatArray, chosen: NDArray[np.intp], confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    lo, hi = np.percentile(chosen, [tail, 100 - tail], method="nearest").astype(np.intp).tolist()
    last = wanted.size - 1
    return Interval(float(wanted[lo]) if lo > 0 else None, float(wanted[hi]) if hi < last else None, confidence)


def _knee(wanted: FloatArray, time: FloatArray, examples: FloatArray, front: NDArray[np.bool_]) -> float | None:
    own = np.flatnonzero(front)
    if own.size < 3:
        return None
    order = own[np.argsort(time[own])]
    x, y = np.log(time[order]), np.log(examples[order])
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
    return float(wanted[order[int(np.argmax(1 - x - y))]])
