"""Cosine decay with warm restarts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import ROUNDING, SCHEDULES, AbstractSchedule, elapsed, require_count, require_fraction


@final
@SCHEDULES.register("cosine_restarts")
@dataclass(frozen=True, slots=True, kw_only=True)
class CosineRestarts(AbstractSchedule):
    """Follow half a cosine from the peak to ``final_factor`` in each of several cycles, each ``growth`` times as long.

    The last cycle ends at the horizon. Agrees with ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`` of
    ``T_mult = growth`` and ``T_0 = horizon / (1 + growth + ... + growth ** (cycles - 1))`` where that is whole, and
    with ``transformers.get_cosine_with_hard_restarts_schedule_with_warmup`` at a growth of 1.

    References
    ----------
    .. [1] Loshchilov and Hutter. "SGDR: stochastic gradient descent with warm restarts." arXiv:1608.03983 (2016),
       equation 5.

    Examples
    --------
    >>> [round(CosineRestarts(cycles=2, growth=1.0).factor(step, horizon=4), 12) for step in range(4)]
    [1.0, 0.5, 1.0, 0.5]
    """

    cycles: int = 3
    """Cycles in the horizon, at least 1."""
    growth: float = 2.0
    """Length of a cycle over that of the one before, at least 1."""
    final_factor: float = 0.0
    """Factor at the end of each cycle, in [0, 1]."""

    def __post_init__(self) -> None:
        require_count("cycles", self.cycles)
        require_count("growth", self.growth)
        require_fraction("final_factor", self.final_factor, zero=True)

    @override
    def factor(self, position: int, horizon: int) -> float:
        share = min(1.0, self._share_of_cycle(elapsed(position, horizon)))
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * share)) / 2

    def _share_of_cycle(self, place: float) -> float:
        length = 1 / sum(self.growth**cycle for cycle in range(self.cycles))
        for _ in range(self.cycles - 1):
            if place < length * (1 - ROUNDING):
                break
            place, length = place - length, length * self.growth
        return max(0.0, place) / length
