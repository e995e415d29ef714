"""What every batch-size schedule is: from the examples seen to a multiple of the first batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lrscale.errors import LrscaleError
from lrscale.registry import Registry

LARGEST_MULTIPLE = 1 << 20
"""Bound of every multiple: a larger one is a mistake, not a batch."""


@dataclass(frozen=True, slots=True)
class AbstractBatchSchedule(ABC):
    """Global batch size over training, as a whole multiple of the batch size that a trial begins with.

    Positions are counted in base steps: runs of as many examples as the first batch has. So a schedule is a function
    of the examples seen, whatever the batch, and a trial of any batch schedule sees the examples of the constant one,
    in the same order. Implementations are frozen dataclasses; equal settings give equal results.
    """

    follows_lr: ClassVar[bool] = False
    """Whether `multiple` looks at how far the learning rate has decayed."""

    @abstractmethod
    def multiple(self, position: int, horizon: int, decay: float = 1.0) -> int:
        """Return the batch size of the step that begins here, as a multiple of the first.

        Parameters
        ----------
        position : int
            Base steps done, from 0 to ``horizon - 1``.
        horizon : int
            Base steps of the trial, at least 1.
        decay : float, optional
            Factor of the LR schedule here over its highest so far, in [0, 1]. Default 1.

        Returns
        -------
        int
            At least 1.
        """

    @property
    @abstractmethod
    def lr_power(self) -> float:
        """Power of the multiple by which the learning rate is multiplied: 0 leaves it alone, 1 is the linear rule."""


BATCH_SCHEDULES: Registry[type[AbstractBatchSchedule]] = Registry("batch schedule")


def require_multiple(name: str, value: object) -> None:
    """Raise unless `value` is a whole number in [1, `LARGEST_MULTIPLE`]."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_MULTIPLE:
        raise LrscaleError(f"{name} must be a whole number from 1 to {LARGEST_MULTIPLE}, not {value!r}")


def require_share(name: str, value: object) -> None:
    """Raise unless `value` is a number in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise LrscaleError(f"{name} must be in (0, 1], not {value!r}")


def require_power(name: str, value: object, *, zero: bool = True) -> None:
    """Raise unless `value` is a finite number of at least 0, or above 0 unless `zero` is allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise LrscaleError(f"{name} must be a number of at least 0, not {value!r}")
    if value == 0 and not zero:
        raise LrscaleError(f"{name} must be above 0")
