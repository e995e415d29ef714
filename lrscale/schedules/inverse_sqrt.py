"""Inverse square root decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@SCHEDULES.register("inverse_sqrt")
@dataclass(frozen=True, slots=True, kw_only=True)
class InverseSqrt(AbstractSchedule):
    """Decay as ``sqrt(s / (s + t))`` with a time scale ``s`` that is a fraction of the horizon.

    Behind a warm-up of ``s`` steps this is the schedule of the Transformer, ``sqrt(w / t)`` for step ``t >= w`` [1]_.

    References
    ----------
    .. [1] Vaswani et al. "Attention is all you need." arXiv:1706.03762 (2017), equation 3.

    Examples
    --------
    >>> InverseSqrt(timescale_fraction=0.25).factor(75, horizon=100)
    0.5
    """

    timescale_fraction: float = 0.05
    """Time scale of the decay as a share of the horizon, in (0, 1]."""

    def __post_init__(self) -> None:
        require_fraction("timescale_fraction", self.timescale_fraction)

    @override
    def factor(self, position: int, horizon: int) -> float:
        timescale = self.timescale_fraction * horizon
        return math.sqrt(timescale / (timescale + position))
