"""One cycle of LR and momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@SCHEDULES.register("one_cycle")
@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle(AbstractSchedule):
    """Rise to the peak and anneal far below the start, momentum moving against the LR.

    Agrees with ``torch.optim.lr_scheduler.OneCycleLR(anneal_strategy="cos")`` of the same settings, so it brings its
    own rise and takes no warm-up in front.

    References
    ----------
    .. [1] Smith and Topin. "Super-convergence." arXiv:1708.07120 (2017).

    Examples
    --------
    >>> round(OneCycle().factor(0, horizon=100), 12)
    0.04
    """

    needs_warmup: ClassVar[bool] = False

    rise_fraction: float = 0.3
    """Share of the horizon spent rising, in (0, 1); torch's ``pct_start``."""
    start_divisor: float = 25.0
    """Peak divided by the first LR, at least 1; torch's ``div_factor``."""
    final_divisor: float = 1e4
    """First LR divided by the last, at least 1; torch's ``final_div_factor``."""
    cycle_momentum: bool = True
    """Whether momentum (Adam's beta1) moves against the LR."""
    base_momentum: float = 0.85
    """Momentum at the peak LR, in [0, 1)."""
    max_momentum: float = 0.95
    """Momentum at both ends, in [0, 1)."""

    def __post_init__(self) -> None:
        require_fraction("rise_fraction", self.rise_fraction)
        if self.rise_fraction == 1:
            raise LrscaleError("rise_fraction must be below 1: a cycle also falls")
        for name in ("start_divisor", "final_divisor"):
            if getattr(self, name) < 1:
                raise LrscaleError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise LrscaleError("momenta must satisfy 0 <= base_momentum <= max_momentum < 1")

    @override
    def factor(self, position: int, horizon: int) -> float:
        start = 1 / self.start_divisor
        return self._between(position, horizon, start, 1.0, start / self.final_divisor)

    @override
    def momentum(self, position: int, horizon: int) -> float | None:
        if not self.cycle_momentum:
            return None
        return self._between(position, horizon, self.max_momentum, self.base_momentum, self.max_momentum)

    def _between(self, position: int, horizon: int, start: float, top: float, end: float) -> float:
        # torch counts the last step of the rise as pct_start * total - 1, and reaches `end` on the last step.
        peak = self.rise_fraction * horizon - 1
        if position <= peak:
            return _anneal(start, top, position / peak if peak > 0 else 1.0)
        return _anneal(top, end, min(1.0, (position - peak) / max(horizon - 1 - peak, 1e-12)))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
