"""Warm-up, stable, decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

from typing_extensions import override

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction

Decay = Literal["linear", "one_minus_sqrt", "cosine"]

DECAYS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda share: 1 - share,
        "one_minus_sqrt": lambda share: 1 - math.sqrt(share),
        "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    }
)
"""Shapes of the cooldown as functions of its elapsed share in [0, 1] (Hägele et al. 2024, arXiv:2405.18392)."""


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
        require_fraction("final_factor", self.final_factor, zero=True)
        if self.decay not in DECAYS:
            raise LrscaleError(f"unknown decay {self.decay}", hint=did_you_mean(self.decay, DECAYS))

    @override
    def factor(self, position: int, horizon: int) -> float:
        left = (horizon - position) / (self.decay_fraction * horizon)
        share = min(1.0, max(0.0, 1 - left))
        return self.final_factor + (1 - self.final_factor) * DECAYS[self.decay](share)
