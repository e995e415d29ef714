"""The LR history of one run: what the laws of loss against step are functions of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray

# About 32 steps a block for 16k steps. On a cosine of 24k steps this moves a loss by at most 2e-5 nats.
_BLOCKS = 512
# Fraction of the peak: a change between neighbouring points above this keeps both of them.
_JUMP = 0.005
# Fraction of the peak below which two LRs are equal; logs hold them in single precision.
_EQUAL = 1e-6
# A drop is abrupt when the LR falls by this fraction of the peak while the step count grows by this fraction. A cosine
# and a linear decay fall by 0.09, a cooldown over the last 50 % by 0.18, over the last 40 % by 0.23, 20 % by 0.45.
_ABRUPT_FALL = 0.2
_ABRUPT_SPAN = 0.1


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LRTrace:
    """The LR of a run at some of its steps, and the sum of all LRs up to each of them.

    Make one with `from_steps` or `from_points`. Step t means "after t optimizer steps". Between two knots the LR falls
    or rises evenly.

    Examples
    --------
    >>> trace = LRTrace.from_steps([0.5, 1.0, 1.0, 1.0, 0.5, 0.25])
    >>> trace.peak, trace.warmup_end, trace.last_step
    (1.0, 2.0, 6.0)
    >>> trace.area_at([2.0, 6.0])
    array([1.5 , 4.25])
    """

    step: FloatArray
    """Steps of the knots from 0, increasing, shape (k,)."""
    lr: FloatArray
    """LR of that step, shape (k,)."""
    area: FloatArray
    """Sum of the LRs of all steps up to and with that step, the warm-up included, shape (k,)."""

    @classmethod
    def from_steps(cls, lr: ArrayLike) -> LRTrace:
        """Read the LR of every optimizer step.

        Parameters
        ----------
        lr : array-like of shape (n,)
            LR of the first, second, ... n-th step; finite, never negative, not all zero.

        Returns
        -------
        LRTrace
            Long stretches are compressed into about 512 blocks. Sums of LRs at the knots stay exact, and both sides
            of a jump by more than 0.5 % of the peak are kept.

        Raises
        ------
        LrscaleError
            Naming the row of the first wrong value.
        """
        values = _checked_lr(lr)
        step = np.arange(values.size + 1, dtype=np.float64)
        padded = np.concatenate([values[:1], values])
        area = np.concatenate([[0.0], np.cumsum(values)])
        kept = _kept(step, padded)
        return cls(step=step[kept], lr=padded[kept], area=area[kept])

    @classmethod
    def from_points(cls, step: ArrayLike, lr: ArrayLike, *, warmup_steps: float | None = None) -> LRTrace:
        """Read the LR logged at some steps; sums of LRs follow by the trapezoidal rule.

        Parameters
        ----------
        step : array-like of shape (k,)
            Steps, increasing, at least two.
        lr : array-like of shape (k,)
            LR at these steps; finite, never negative, not all zero.
        warmup_steps : float or None, optional
            Where the log starts after step 0: steps over which the LR rose evenly from 0 to the first logged value,
            which it then kept. Default None: all of the steps before the first logged one.

        Returns
        -------
        LRTrace

        Raises
        ------
        LrscaleError
            Naming the row of the first wrong value.

        Examples
        --------
        >>> LRTrace.from_points([100, 200, 300], [0.1, 0.1, 0.0]).area
        array([ 0.,  5., 15., 20.])
        """
        at = np.atleast_1d(np.asarray(step, dtype=np.float64))
        values = _checked_lr(lr)
        if at.shape != values.shape or at.size < 2:
            raise LrscaleError(
                f"{at.size} steps and {values.size} LRs make no history",
                hint="give one LR for each of two or more steps",
            )
        _check_steps(at)
        if at[0] > 0:
            rise = at[0] if warmup_steps is None else float(warmup_steps)
            if not 0 <= rise <= at[0]:
                raise LrscaleError(
                    f"warmup_steps {rise:g} is not between 0 and the first logged step {at[0]:g}",
                    hint="leave it out if the log starts where the warm-up ends",
                )
            before = [0.0] if rise in (0.0, at[0]) else [0.0, rise]
            start = values[0] if rise == 0 else 0.0
            at = np.concatenate([before, at])
            values = np.concatenate([[start], np.full(len(before) - 1, values[0]), values])
        elif warmup_steps is not None:
            raise LrscaleError(
                f"warmup_steps {warmup_steps:g} is given, but the log starts at step 0", hint="leave it out"
            )
        area = np.concatenate([[0.0], np.cumsum(np.diff(at) * (values[1:] + values[:-1]) / 2)])
        kept = _kept(at, values)
        return cls(step=at[kept], lr=values[kept], area=area[kept])

    @property
    def peak(self) -> float:
        """Largest LR."""
        return float(self.lr.max())

    @property
    def last_step(self) -> float:
        """Number of optimizer steps of the run."""
        return float(self.step[-1])

    @property
    def warmup_end(self) -> float:
        """Step at which the first rise ends; 0 for a run that starts at its highest LR."""
        falls = np.flatnonzero(np.diff(self.lr) < -_EQUAL * self.peak)
        top = self.lr[falls[0]] if falls.size else self.lr[-1]
        return float(self.step[int(np.argmax(self.lr >= top - _EQUAL * self.peak))])

    @property
    def drops(self) -> FloatArray:
        """Fall of the LR from the knot before to each knot, shape (k,); a later rise is negative.

        Rises of the warm-up count as zero. Counting them as negative drops would move only the constant term of a law:
        by 0.11 to 0.21 nats in fits to public curves, so that this term is no irreducible loss.
        """
        falls = np.concatenate([[0.0], -np.diff(self.lr)])
        return np.where(self.step <= self.warmup_end, 0.0, falls)

    @property
    def drops_abruptly(self) -> bool:
        """Whether the LR falls by 20 % of its peak while the step count grows by at most 10 %, after the warm-up."""
        later = self.lr_at(np.minimum(self.step * (1 + _ABRUPT_SPAN), self.last_step))
        after = self.step >= self.warmup_end
        # Between two logged points nothing is known: a fall from one to the next counts whatever their distance.
        sudden = np.where(after[:-1], -np.diff(self.lr) * (np.diff(self.step) <= _ABRUPT_SPAN * self.step[1:]), 0.0)
        fall = max(float(np.max(np.where(after, self.lr - later, 0.0))), float(np.max(sudden)))
        return fall >= _ABRUPT_FALL * self.peak

    @property
    def decayed(self) -> bool:
        """Whether the LR ever falls by more than 1 % of its peak after the warm-up."""
        after = self.lr[self.step >= self.warmup_end]
        return bool(np.max(after) - np.min(after) > 0.01 * self.peak)

    def lr_at(self, step: ArrayLike) -> FloatArray:
        """Return the LR at steps within the run, shape (n,)."""
        return np.interp(np.asarray(step, dtype=np.float64), self.step, self.lr)

    def area_at(self, step: ArrayLike) -> FloatArray:
        """Return the sum of the LRs up to steps within the run, shape (n,)."""
        return np.interp(np.asarray(step, dtype=np.float64), self.step, self.area)

    def with_knots(self, step: FloatArray) -> LRTrace:
        """Return the same history with further knots at `step`, shape (n,), within the run."""
        union = np.union1d(self.step, step)
        return LRTrace(step=union, lr=self.lr_at(union), area=self.area_at(union))

    def same_as(self, other: LRTrace) -> bool:
        """Return whether both follow one schedule: equal lengths, and LRs within 1 % of the peak at 99 % of the knots.

        Logs place a sudden drop anywhere between two points, so a few knots may differ.
        """
        if abs(self.last_step - other.last_step) > 0.01 * self.last_step:
            return False
        shared = np.minimum(np.union1d(self.step, other.step), min(self.last_step, other.last_step))
        apart = np.abs(self.lr_at(shared) - other.lr_at(shared)) > 0.01 * self.peak
        return bool(np.mean(apart) <= 0.01)


def _checked_lr(lr: ArrayLike) -> FloatArray:
    values = np.atleast_1d(np.asarray(lr, dtype=np.float64))
    if values.ndim != 1 or values.size == 0:
        raise LrscaleError(f"LRs of shape {values.shape} make no history", hint="give one LR for each step")
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LrscaleError(f"row {row}: LR {values[row]} is not a number from 0 up", hint="mend the log")
    if not values.any():
        raise LrscaleError(f"all {values.size} LRs are 0", hint="a run without a positive LR has no curve")
    return values


def _check_steps(step: FloatArray) -> None:
    wrong = ~np.isfinite(step) | (step < 0)
    wrong[1:] |= ~(np.diff(step) > 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        before = f" after {step[row - 1]:g}" if row else ""
        raise LrscaleError(f"row {row}: step {step[row]:g}{before} does not increase", hint="sort the log by step")


def _kept(step: FloatArray, lr: FloatArray) -> NDArray[np.intp]:
    """Return which points become knots: block ends, and both sides of the largest jumps."""
    if step.size <= 2 * _BLOCKS:
        return np.arange(step.size)
    ends = np.searchsorted(step, np.linspace(step[0], step[-1], _BLOCKS + 1))
    change = np.abs(np.diff(lr))
    jumps = np.argsort(-change, kind="stable")[:_BLOCKS]
    jumps = jumps[change[jumps] > _JUMP * lr.max()]
    return np.unique(np.concatenate([[0, step.size - 1], ends, jumps, jumps + 1]))
