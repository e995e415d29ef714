"""Steps to a target loss: where an evaluation curve first falls to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, final, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, finite_or_none
from lrscale.laws.steps.smooth import smooth_curve

Smoothing = Literal["kernel", "running_minimum"]
_FEWEST_POINTS = 5
# Steps closer than this in ln(step) are one.
_SAME = 1e-9


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """The step at which a curve reaches a target, or the bound that it gives."""

    status: FitStatus
    """``ok``: reached; ``censored_high``: not reached by `step`; ``censored_low``: below the target from `step`, its
    first evaluation, on; ``too_few_points``; ``all_diverged``: no finite loss to begin with."""
    reason: str
    """One sentence with the numbers behind the status."""
    target: float
    step: float | None
    """The crossing, or the bound of a censored curve; None without either."""
    lo: float | None
    """Last evaluation before the crossing: the true crossing lies between `lo` and `hi`. None: open."""
    hi: float | None
    """First evaluation after it; None: open."""
    log_step_se: float | None = None
    """Standard error of ln(step) from the noise of the evaluations; None unless reached, or without smoothing."""

    @property
    def censored(self) -> int:
        """What `fit_steps_to_target` takes: 0 reached, 1 not reached, -1 below the target from the start.

        Raises
        ------
        LrscaleError
            When there is no bound either.
        """
        sides = {FitStatus.OK: 0, FitStatus.CENSORED_HIGH: 1, FitStatus.CENSORED_LOW: -1}
        if self.status not in sides:
            raise LrscaleError(f"the curve gives no bound: {self.reason}", hint="leave the run out")
        return sides[self.status]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        plain: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["status"] = self.status.value
        for name in ("step", "lo", "hi", "log_step_se"):
            plain[name] = finite_or_none(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Crossing:
        """Rebuild the crossing that `to_dict` wrote."""
        return cls(**{**data, "status": FitStatus(data["status"])})


def steps_to_target(
    steps: ArrayLike,
    loss: ArrayLike,
    target: float,
    *,
    smoothing: Smoothing = "kernel",
    width: float | None = None,
) -> Crossing:
    """Return the step at which an evaluation curve first falls to a target, interpolated in ln(step).

    The curve is smoothed first: the first of many noisy evaluations that happens to fall below a target comes too
    early, and the earlier the denser the evaluations. A running minimum has that same bias, and is offered for curves
    without noise. A local-linear kernel in ln(step) does not lag; its width is that of least leave-one-out error.

    Parameters
    ----------
    steps : array-like of shape (n,)
        Optimizer steps of the evaluations, positive and increasing.
    loss : array-like of shape (n,)
        Loss on a fixed evaluation set, not the training loss: its noise changes with the batch size. From the first
        value that is not a finite number on, the run counts as diverged.
    target : float
    smoothing : {"kernel", "running_minimum"}, optional
        Defaults to ``"kernel"``.
    width : float, optional
        Standard deviation of the kernel in ln(step). Default None: chosen by leave-one-out error.

    Returns
    -------
    Crossing
        Censored at the last finite evaluation when the smoothed curve stays above the target, and at the first one
        when it starts at or below it.

    Raises
    ------
    LrscaleError
        For lengths that differ, steps that are not positive or do not increase, or a target that is not finite.

    Examples
    --------
    >>> step = np.arange(100, 2001, 100)
    >>> found = steps_to_target(step, 2 + 30 / step**0.5, 3.0)
    >>> round(found.step), found.lo, found.hi
    (900, 900.0, 1000.0)
    >>> steps_to_target(step, 2 + 30 / step**0.5, 2.5).status.value
    'censored_high'
    """
    when, value = np.atleast_1d(np.asarray(steps, dtype=np.float64)), np.atleast_1d(np.asarray(loss, dtype=np.float64))
    _check(when, value, target, smoothing, width)
    bad = ~np.isfinite(value)
    fine = int(np.argmax(bad)) if bad.any() else value.size
    tail = "" if fine == value.size else f"; the loss is not finite from step {when[fine]:g} on"
    when, value = when[:fine], value[:fine]
    if not fine:
        return _bound(FitStatus.ALL_DIVERGED, f"the first of {bad.size} losses is not finite", target)
    if fine < _FEWEST_POINTS:
        reason = f"{fine} finite evaluations; {_FEWEST_POINTS} are needed{tail}"
        return _bound(FitStatus.TOO_FEW_POINTS, reason, target)
    x = np.log(when)
    if smoothing == "kernel":
        curve = smooth_curve(x, value, width)
        level = _falling(curve.loss)
        grid, se = curve.log_step[: level.size], curve.se[: level.size]
    else:
        grid, level, se = x, np.minimum.accumulate(value), None
    below = np.flatnonzero(level <= target)
    if not below.size:
        reason = f"the loss falls to {float(level[-1]):.4g} by step {when[-1]:g}, not to {target:g}{tail}"
        return _bound(FitStatus.CENSORED_HIGH, reason, target, step=float(when[-1]), lo=float(when[-1]))
    first = int(below[0])
    if first == 0:
        reason = f"the loss is {float(level[0]):.4g} at the first evaluation, step {when[0]:g}: not above {target:g}"
        return _bound(FitStatus.CENSORED_LOW, reason, target, step=float(when[0]), hi=float(when[0]))
    share = float((level[first - 1] - target) / (level[first - 1] - level[first]))
    at = float(grid[first - 1] + share * (grid[first] - grid[first - 1]))
    after = int(np.clip(np.searchsorted(x, at + _SAME, side="right"), 1, x.size - 1))
    lo, hi = float(when[after - 1]), float(when[after])
    error = None
    if se is not None:
        # The slope over a kernel to either side: between two points it is noise.
        near = curve.width + float(grid[first] - grid[first - 1])
        early, late = np.interp([at - near, at + near], grid, level)
        ends = np.clip([at - near, at + near], grid[0], grid[-1])
        slope = float((early - late) / (ends[1] - ends[0]))
        error = float(np.interp(at, grid, se)) / slope if slope > 0 else None
    return Crossing(
        status=FitStatus.OK,
        reason=f"the loss falls to {target:g} at step {math.exp(at):.6g}, between evaluations at {lo:g} and {hi:g}",
        target=float(target),
        step=math.exp(at),
        lo=lo,
        hi=hi,
        log_step_se=error,
    )


def _falling(level: FloatArray) -> FloatArray:
    """Return the nearest curve that never rises, up to the lowest point; a later rise (overfitting) stays out.

    What wiggles are left by the kernel are averaged (Brunk 1955), where the first of them to dip would be early.
    """
    lowest = int(np.argmin(level)) + 1
    fallen: FloatArray = isotonic_regression(level[:lowest], increasing=False).x
    return fallen


def _bound(
    status: FitStatus,
    reason: str,
    target: float,
    *,
    step: float | None = None,
    lo: float | None = None,
    hi: float | None = None,
) -> Crossing:
    return Crossing(status=status, reason=reason, target=float(target), step=step, lo=lo, hi=hi)


def _check(when: FloatArray, value: FloatArray, target: float, smoothing: str, width: float | None) -> None:
    if when.ndim != 1 or when.shape != value.shape:
        raise LrscaleError(
            f"steps have shape {when.shape} and losses {value.shape}", hint="give one loss for each evaluation"
        )
    wrong = ~np.isfinite(when) | (when <= 0)
    wrong[1:] |= np.diff(when) <= 0
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LrscaleError(
            f"row {row}: step {when[row]} is not positive and above the one before",
            hint="sort the curve by step, drop doubled steps and the evaluation before training",
        )
    if not math.isfinite(target):
        raise LrscaleError(f"the target {target} is not a finite number", hint="name a loss that runs reach")
    if smoothing not in get_args(Smoothing):
        raise LrscaleError(f"unknown smoothing {smoothing!r}", hint=f"use one of {', '.join(get_args(Smoothing))}")
    if width is not None and not 0 < width < math.inf:
        raise LrscaleError(f"width {width} is not a positive number", hint="leave it out to have it chosen")
