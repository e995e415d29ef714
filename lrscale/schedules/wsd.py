"""Warm-up, stable, decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction
from lrscale.schedules.cooldown import Decay, cooldown, require_decay


@final
@SCHEDULES.register("wsd")
@dataclass(frozen=True, slots=True, kw_only=True)
class WSD(AbstractSchedule):
    """Hold the peak LR, then decay over the last fraction of the horizon.

    References
    ----------
    .. [1] Hu et al. "MiniCPM." arXiv:2404.06395 (2024).
    .. [2] Hägele et al. "Scaling laws and compute-optimal training beyond fixed training durations."
       arXiv:2405.18392 (2024). Source of the cooldown shapes and of the usual 10 to 20 %.

    Examples
    --------
    >>> WSD(decay_fraction=0.2).factor(90, horizon=100)
    0.5
    """

    decay_fraction: float = 0.2
    """Share of the horizon spent decaying, in (0, 1]."""
    final_factor: float = 0.0
    """Factor at the horizon, in [0, 1]."""
    decay: Decay = "linear"
    """Shape of the decay."""

    def __post_init__(self) -> None:
        require_fraction("decay_fraction", self.decay_fraction)
        require_decay(self.decay, self.final_factor)

    @override
    def factor(self, position: int, horizon: int) -> float:
        left = (horizon - position) / (self.decay_fraction * horizon)
        return cooldown(self.decay, 1 - left, self.final_factor)
