"""Warm-up in front of any schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final, get_args

from typing_extensions import override

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.schedules.base import AbstractSchedule

WarmupShape = Literal["linear", "cosine"]
WARMUP_SHAPES: tuple[WarmupShape, ...] = get_args(WarmupShape)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup(AbstractSchedule):
    """Rise to the start of another schedule, then follow it over the rest of the horizon.

    With the share ``v = (t + 1) / steps`` while ``t < steps`` the factor of the first step of what follows is
    multiplied by v, or by ``(1 - cos(pi v)) / 2`` where the shape is a cosine: never 0, so the first step already
    trains, and 1 on the last step of the warm-up.

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
    shape: WarmupShape = "linear"
    """``linear`` or ``cosine``."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise LrscaleError(f"warm-up steps must not be negative, not {self.steps}")
        if self.shape not in WARMUP_SHAPES:
            raise LrscaleError(
                f"unknown shape of warm-up {self.shape!r}", hint=did_you_mean(str(self.shape), WARMUP_SHAPES)
            )

    @override
    def factor(self, position: int, horizon: int) -> float:
        if position < self.steps:
            share = (position + 1) / self.steps
            rise = share if self.shape == "linear" else (1 - math.cos(math.pi * share)) / 2
            return rise * self.then.factor(0, max(1, horizon - self.steps))
        return self.then.factor(position - self.steps, max(1, horizon - self.steps))

    @override
    def told(self, validations: Sequence[tuple[int, float]]) -> AbstractSchedule:
        behind = [(step - self.steps, loss) for step, loss in validations if step > self.steps]
        return replace(self, then=self.then.told(behind))

    @override
    def momentum(self, position: int, horizon: int) -> float | None:
        if position < self.steps:
            return self.then.momentum(0, max(1, horizon - self.steps))
        return self.then.momentum(position - self.steps, max(1, horizon - self.steps))
