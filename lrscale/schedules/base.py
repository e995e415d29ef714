"""What every learning-rate schedule is: a pure function of position."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lrscale.errors import LrscaleError
from lrscale.registry import Registry


@dataclass(frozen=True, slots=True)
class AbstractSchedule(ABC):
    """A multiplier of the peak LR as a function of the step.

    A schedule is a frozen dataclass and holds settings only, as its fields. The same position and horizon give the same
    factor, on every rank and after every restart.
    """

    needs_warmup: ClassVar[bool] = True
    """Whether a warm-up belongs in front of it where nobody says so; False for those that bring their own rise."""

    is_pure: ClassVar[bool] = True
    """Whether the position alone decides the factor; False for schedules that follow the losses of their trial."""

    @abstractmethod
    def factor(self, position: int, horizon: int) -> float:
        """Return the multiplier of the peak LR.

        Parameters
        ----------
        position : int
            Index of the optimizer step, from 0 to ``horizon - 1``.
        horizon : int
            Steps that the schedule is built for, at least 1.

        Returns
        -------
        float
            In [0, 1].
        """

    @property
    def label(self) -> str | None:
        """What people read for it, where that says more than its name and settings one after the other; else None."""
        return None

    def momentum(self, position: int, horizon: int) -> float | None:
        """Return the momentum (Adam's beta1) at this step, or None where the schedule leaves it alone."""
        del position, horizon
        return None

    def told(self, validations: Sequence[tuple[int, float]]) -> AbstractSchedule:
        """Return the schedule as it goes on after these validations; itself where it does not follow them.

        Parameters
        ----------
        validations : sequence of (int, float)
            Steps behind each validation, ascending, and its loss over all ranks.
        """
        del validations
        return self


ROUNDING = 1e-9
"""Relative, of a share: 0.3 of ten steps is their third step also where floating point says 2.9999999999999996."""

SCHEDULES: Registry[type[AbstractSchedule]] = Registry("schedule")


def require_fraction(name: str, value: float, *, zero: bool = False) -> None:
    """Raise unless `value` is in (0, 1], or in [0, 1] when `zero` is allowed."""
    if not (0 <= value <= 1 if zero else 0 < value <= 1):
        raise LrscaleError(f"{name} must be in {'[' if zero else '('}0, 1], not {value}")


def require_positive(name: str, value: float) -> None:
    """Raise unless `value` is above 0 and finite."""
    if not 0 < value < math.inf:
        raise LrscaleError(f"{name} must be above 0, not {value}")


def require_count(name: str, value: float) -> None:
    """Raise unless `value` is at least 1 and finite."""
    if not 1 <= value < math.inf:
        raise LrscaleError(f"{name} must be at least 1, not {value}")


def elapsed(position: int, horizon: int) -> float:
    """Return the share of the horizon that lies before a step, in [0, 1]."""
    return min(1.0, position / horizon)
