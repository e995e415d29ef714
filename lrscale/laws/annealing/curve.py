"""A loss curve with the LR history that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.annealing.trace import LRTrace
from lrscale.laws.base import FloatArray

# A power law of the sum of LRs says nothing about the first steps of a run without a warm-up.
_SETTLING = 0.02


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, init=False)
class Curve:
    """The evaluation loss of one run at some of its steps.

    Parameters
    ----------
    name : str
        What messages and `held_out` call the run.
    trace : LRTrace
        Its LR history.
    step : array-like of shape (n,)
        Steps after which the loss was measured, increasing, between 1 and the end of the trace.
    loss : array-like of shape (n,)
        Loss on a fixed evaluation set, positive. A loss that is not finite marks a diverged run.

    Raises
    ------
    LrscaleError
        Naming the curve and the row of the first wrong value.

    Examples
    --------
    >>> curve = Curve(name="flat", trace=LRTrace.from_steps(np.ones(100)), step=[1, 50, 100], loss=[3.0, 2.0, 1.9])
    >>> curve.fitted_step
    array([ 50., 100.])
    """

    name: str
    trace: LRTrace
    step: FloatArray
    loss: FloatArray

    def __init__(self, *, name: str, trace: LRTrace, step: ArrayLike, loss: ArrayLike) -> None:
        at = np.atleast_1d(np.asarray(step, dtype=np.float64))
        values = np.atleast_1d(np.asarray(loss, dtype=np.float64))
        if at.ndim != 1 or at.shape != values.shape:
            raise LrscaleError(
                f"curve {name} has steps of shape {at.shape} and losses of shape {values.shape}",
                hint="give one loss for each step",
            )
        wrong = ~(at > 0) | ~(at <= trace.last_step) | (np.diff(at, prepend=0.0) <= 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise LrscaleError(
                f"curve {name}, row {row}: step {at[row]:g} does not increase within 1 to {trace.last_step:g}, "
                "where the LR is known",
                hint="sort the curve by step, and give the LR of the whole run",
            )
        if (values <= 0).any():
            row = int(np.argmax(values <= 0))
            raise LrscaleError(
                f"curve {name}, row {row}: loss {values[row]:g} is not positive",
                hint="fit a loss, not its logarithm or a score",
            )
        for attribute, value in (("name", name), ("trace", trace), ("step", at), ("loss", values)):
            object.__setattr__(self, attribute, value)

    @property
    def diverged(self) -> bool:
        """Whether a loss is not finite."""
        return not bool(np.isfinite(self.loss).all())

    @property
    def start(self) -> float:
        """First step that laws describe: the end of the warm-up, or 2 % of the run if that is later."""
        return max(self.trace.warmup_end, _SETTLING * self.trace.last_step)

    @property
    def fitted_step(self) -> FloatArray:
        """Measured steps from `start` on."""
        return self.step[self.step >= self.start]

    @property
    def fitted_loss(self) -> FloatArray:
        """Losses from `start` on."""
        return self.loss[self.step >= self.start]


def schedule_numbers(curves: Sequence[Curve]) -> list[int]:
    """Return the number of the schedule of each curve; curves with the same LR history share one."""
    first: list[Curve] = []
    numbers = []
    for curve in curves:
        match = next((i for i, other in enumerate(first) if curve.trace.same_as(other.trace)), len(first))
        if match == len(first):
            first.append(curve)
        numbers.append(match)
    return numbers
