"""Fits the model of a step's time to measured layouts, says what they leave open, and predicts others."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from lrscale.laws.base import FloatArray, Interval, check_confidence
from lrscale.laws.resample import bootstrap_interval
from lrscale.laws.step_time.model import GAMMA, StepTimeModel, TimedLayout, step_seconds
from lrscale.laws.step_time.solve import solve

GAMMA_SD = 4.5
RATIO_SD = 1.0
"""Standard deviations of the priors, of Pollux's form: a small overlap, and a rank that adds no more than the reduction
itself costs. They stand beside residuals in units of their noise, so that good data overrule them."""
MOST_NOISE = 0.3
"""Standard deviation of the log residuals beyond which the model describes nothing."""
NOISE_FLOOR = 1e-6
"""Least standard deviation of a log residual."""
DRAWS = 200
NAMES = ("compute_fixed", "compute_per_example", "sync_fixed", "sync_per_rank", "gamma")


@final
class StepTimeStatus(enum.Enum):
    """How the fit ended; the result's `reason` holds the numbers."""

    OK = "ok"
    ONE_RANK = "one_rank"
    TOO_FEW_LAYOUTS = "too_few_layouts"
    NOT_IDENTIFIABLE = "not_identifiable"
    POOR_FIT = "poor_fit"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimeFit:
    """A model of the step's time, or why there is none. `fit_step_time` makes it."""

    status: StepTimeStatus
    """``one_rank``: the computation is known and the synchronisation is not."""
    reason: str
    """One sentence with the numbers behind the status."""
    model: StepTimeModel | None
    """None unless the status is ok or one_rank; what is not known in it is 0 and stands in `unknown`."""
    unknown: tuple[str, ...]
    """Parameters that the layouts leave open."""
    intervals: dict[str, Interval]
    """Of the parameters that are known."""
    residual_sd: float | None
    """Standard deviation of the log residuals: how far the model is from a measured time, relatively."""
    layouts: int
    """Measurements that entered."""
    batch_range: tuple[int, int] | None
    """Per-device batch sizes measured."""
    ranks: tuple[int, ...]
    """Numbers of ranks measured."""
    confidence: float
    _draws: FloatArray = field(default_factory=lambda: np.empty((0, 5)), repr=False, compare=False)
    _degrees: int = 0

    @property
    def ok(self) -> bool:
        """Whether the whole model is known."""
        return self.status is StepTimeStatus.OK

    def can_predict(self, ranks: int) -> bool:
        """Whether a step over so many ranks can be predicted from what was measured."""
        if self.model is None:
            return False
        if ranks == 1:
            return True
        return self.ok and (ranks == 2 or ranks in self.ranks or "sync_per_rank" not in self.unknown)

    def seconds(self, per_device_batch_size: int, ranks: int, accumulate: int = 1) -> tuple[float, Interval] | None:
        """Return the time of a step with its interval, or None where the layouts measured do not tell it.

        The interval is that of the mean time; a single measurement varies by `residual_sd` besides.
        """
        if self.model is None or not self.can_predict(ranks):
            return None
        value = self.model.seconds(per_device_batch_size, ranks, accumulate)
        where = [np.array([float(number)]) for number in (per_device_batch_size, ranks, accumulate)]
        draws = np.log(step_seconds(self._draws, where[0], where[1], where[2])[:, 0])
        ends = bootstrap_interval(float(np.log(value)), draws, self.confidence, self._degrees)
        return value, _exponential(ends)

    def examples_per_second(
        self, per_device_batch_size: int, ranks: int, accumulate: int = 1
    ) -> tuple[float, Interval] | None:
        """Return the speed with its interval, or None where it cannot be told."""
        found = self.seconds(per_device_batch_size, ranks, accumulate)
        if found is None:
            return None
        examples = per_device_batch_size * ranks * accumulate
        seconds, ends = found
        lo = None if ends.hi is None else examples / ends.hi
        hi = None if ends.lo is None else examples / ends.lo
        return examples / seconds, Interval(lo, hi, self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for a finding."""
        model = self.model
        return {
            "status": self.status.value,
            "reason": self.reason,
            "parameters": {}
            if model is None
            else {name: getattr(model, name) for name in NAMES if name not in self.unknown},
            "intervals": {name: ends.to_dict() for name, ends in self.intervals.items()},
            "unknown": list(self.unknown),
            "residual_sd": self.residual_sd,
            "layouts": self.layouts,
            "batch_range": None if self.batch_range is None else list(self.batch_range),
            "ranks": list(self.ranks),
            "confidence": self.confidence,
        }


def fit_step_time(rows: Sequence[TimedLayout], *, confidence: float = 0.95, draws: int = DRAWS) -> StepTimeFit:
    """Fit the model of `StepTimeModel` to measured layouts by least squares on the logarithm of their times.

    Parameters
    ----------
    rows : sequence of TimedLayout
        Measurements; several of one layout are as good as several layouts for the noise.
    confidence : float, optional
        Of the intervals, in (0, 1). Default 0.95.
    draws : int, optional
        Parametric bootstrap: times drawn anew about the fit with the noise of its residuals, and fitted again. Default
        200.

    Returns
    -------
    StepTimeFit
        ``one_rank`` when no layout has two ranks or more: the synchronisation cannot be told. ``not_identifiable``
        when no layout shows the computation alone (one rank, or accumulation). ``too_few_layouts`` with fewer
        measurements than parameters and one. ``poor_fit`` when they lie farther from the model than
        `MOST_NOISE`. The cost of ranks beyond two takes two different numbers of them;
        without, it is `unknown`, and more ranks are not predicted.

    References
    ----------
    .. [1] Qiao et al. "Pollux: Co-adaptive Cluster Scheduling for Goodput-Optimized Deep Learning." OSDI 2021,
       arXiv:2008.12260, section 3.2.
    """
    confidence = check_confidence(confidence)
    batch = np.array([float(row.per_device_batch_size) for row in rows])
    ranks = np.array([float(row.ranks) for row in rows])
    accumulate = np.array([float(row.accumulate) for row in rows])
    log_times = np.log([row.seconds for row in rows])
    free, problem = _what_can_be_told(rows)
    if problem is not None:
        return _without(problem[0], problem[1], rows, confidence)

    def residuals(params: FloatArray, targets: FloatArray, noise: float) -> FloatArray:
        whole = _whole(params, free)
        misfit = (np.log(step_seconds(whole, batch, ranks, accumulate)) - targets) / noise
        parts = [misfit]
        if "gamma" in free:
            parts.append((whole[:, [4]] - 1) / GAMMA_SD)
        if "sync_per_rank" in free:
            parts.append(whole[:, [3]] / whole[:, [2]] / RATIO_SD)
        return np.concatenate(parts, axis=1)

    starts = _starts(rows, free)
    degrees = len(rows) - len(free)
    noise = 0.05
    best = starts
    for _ in range(4):
        found, costs = solve(residuals, best, np.broadcast_to(log_times, (len(best), len(rows))), noise)
        best = found[[int(np.argmin(costs))]]
        misfit = residuals(best, log_times[None, :], 1.0)[0, : len(rows)]
        noise = max(NOISE_FLOOR, float(np.sqrt((misfit**2).sum() / degrees)))
    if noise > MOST_NOISE:
        reason = f"{len(rows)} measurements lie {100 * noise:.2g} % off the model: something else used the machine"
        return _without(StepTimeStatus.POOR_FIT, reason, rows, confidence)
    estimate = _whole(best, free)[0]
    rng = np.random.default_rng(20260101)
    fitted = np.log(step_seconds(estimate[None, :], batch, ranks, accumulate))
    targets = fitted + noise * rng.standard_normal((draws, len(rows)))
    drawn = _whole(solve(residuals, np.repeat(best, draws, axis=0), targets, noise)[0], free)
    one_rank = bool((ranks == 1).all())
    unknown = tuple(name for name in NAMES if name not in free)
    return StepTimeFit(
        status=StepTimeStatus.ONE_RANK if one_rank else StepTimeStatus.OK,
        reason=_sentence(rows, noise, unknown, one_rank),
        model=StepTimeModel(**dict(zip(NAMES, (float(value) for value in estimate), strict=True))),
        unknown=unknown,
        intervals={
            name: _parameter_interval(name, estimate, drawn, confidence, degrees) for name in NAMES if name in free
        },
        residual_sd=noise,
        layouts=len(rows),
        batch_range=(int(batch.min()), int(batch.max())),
        ranks=tuple(sorted({row.ranks for row in rows})),
        confidence=confidence,
        _draws=drawn,
        _degrees=degrees,
    )


def _what_can_be_told(rows: Sequence[TimedLayout]) -> tuple[tuple[str, ...], tuple[StepTimeStatus, str] | None]:
    several = [row for row in rows if row.ranks > 1]
    alone = [row for row in rows if row.ranks == 1 or row.accumulate > 1]
    free = ["compute_fixed", "compute_per_example"]
    if several:
        free.append("sync_fixed")
        if len({row.ranks for row in several}) > 1:
            free.append("sync_per_rank")
        if len({row.per_device_batch_size for row in several}) > 2:
            free.append("gamma")
    if several and not alone:
        return (), (
            StepTimeStatus.NOT_IDENTIFIABLE,
            "no layout of one device was timed, so that computation and synchronisation cannot be told apart",
        )
    sizes = len({row.per_device_batch_size for row in rows})
    if sizes < 2 or len(rows) <= len(free):
        return (), (
            StepTimeStatus.TOO_FEW_LAYOUTS,
            f"{len(rows)} measurements of {sizes} per-device batch size{'s' if sizes != 1 else ''}; "
            f"{len(free) + 1} of at least 2 would do",
        )
    return tuple(free), None


def _starts(rows: Sequence[TimedLayout], free: tuple[str, ...]) -> FloatArray:
    batch = np.array([float(row.per_device_batch_size) for row in rows])
    seconds = np.array([row.seconds / row.accumulate for row in rows])
    level = float(seconds.min())
    slope = max(float((seconds.max() - level) / max(1.0, batch.max() - batch.min())), 1e-3 * level)
    made = []
    for share in (0.1, 0.5, 0.9):
        for sync in (0.1, 1.0):
            for gamma in (1.2, 3.0):
                start = {
                    "compute_fixed": np.log(share * level),
                    "compute_per_example": np.log(slope),
                    "sync_fixed": np.log(sync * level),
                    "sync_per_rank": np.log(0.1 * sync * level),
                    "gamma": np.log(gamma - 1),
                }
                made.append([start[name] for name in free])
    return np.array(made)


def _whole(params: FloatArray, free: tuple[str, ...]) -> FloatArray:
    """Return rows of all five parameters from the searched ones: logarithms, and that of gamma - 1."""
    whole = np.zeros((len(params), 5))
    whole[:, 4] = GAMMA[0]
    for place, name in enumerate(free):
        if name == "gamma":
            whole[:, 4] = GAMMA[0] + np.exp(np.clip(params[:, place], -12.0, np.log(GAMMA[1] - GAMMA[0])))
        else:
            whole[:, NAMES.index(name)] = np.exp(np.clip(params[:, place], -35.0, 20.0))
    return whole


def _parameter_interval(
    name: str, estimate: FloatArray, drawn: FloatArray, confidence: float, degrees: int
) -> Interval:
    place = NAMES.index(name)
    if name == "gamma":
        ends = bootstrap_interval(float(estimate[place]), drawn[:, place], confidence, degrees)
        lo = None if ends.lo is None else max(GAMMA[0], ends.lo)
        hi = None if ends.hi is None else min(GAMMA[1], ends.hi)
        return Interval(lo, hi, confidence)
    return _exponential(
        bootstrap_interval(float(np.log(estimate[place])), np.log(drawn[:, place]), confidence, degrees)
    )


def _exponential(ends: Interval) -> Interval:
    lo, hi = (None if end is None else float(np.exp(end)) for end in (ends.lo, ends.hi))
    return Interval(lo, hi, ends.confidence)


def _sentence(rows: Sequence[TimedLayout], noise: float, unknown: tuple[str, ...], one_rank: bool) -> str:
    told = f"{len(rows)} measurements lie within {100 * noise:.2g} % of the model"
    if one_rank:
        return f"{told}; with one rank alone the cost of synchronisation is not known"
    if "sync_per_rank" in unknown:
        return f"{told}; with one number of ranks beyond one, the cost of further ranks is not known"
    return told


def _without(status: StepTimeStatus, reason: str, rows: Sequence[TimedLayout], confidence: float) -> StepTimeFit:
    sizes = [row.per_device_batch_size for row in rows]
    return StepTimeFit(
        status=status,
        reason=reason,
        model=None,
        unknown=NAMES,
        intervals={},
        residual_sd=None,
        layouts=len(rows),
        batch_range=(min(sizes), max(sizes)) if sizes else None,
        ranks=tuple(sorted({row.ranks for row in rows})),
        confidence=confidence,
    )
