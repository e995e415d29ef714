"""Linear warm-up in front of any schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import AbstractSchedule


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup(AbstractSchedule):
    """Rise linearly to the peak, then follow another schedule over the rest of the horizon.

    The factor is ``(t + 1) / steps`` while ``t < steps``: never 0, so the first step already trains, and 1 on the last
    step of the warm-up.

    References
    ----------
    .. [1] Goyal et al. "Accurate, large minibatch SGD." arXiv:1706.02677 (2017), section 2.2.

    Examples
    --------
    >>> from lrscale.schedules import Linear
    >>> [Warmup(steps=2, then=Linear()).factor(step, horizon=6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """

    steps: int
    """Length of the warm-up in steps, at least 0."""
    then: AbstractSchedule
    """What follows."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise LrscaleError(f"warm-up steps must not be negative, not {self.steps}")

    @override
    def factor(self, position: int, horizon: int) -> float:
        if position < self.steps:
            return (position + 1) / self.steps
        return self.then.factor(position - self.steps, max(1, horizon - self.steps))

    @override
    def momentum(self, position: int, horizon: int) -> float | None:
        if position < self.steps:
            return self.then.momentum(0, max(1, horizon - self.steps))
        return self.then.momentum(position - self.steps, max(1, horizon - self.steps))
