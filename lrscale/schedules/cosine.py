"""Cosine decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@SCHEDULES.register("cosine")
@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine(AbstractSchedule):
    """Follow half a cosine from the peak to ``final_factor`` at the horizon.

    References
    ----------
    .. [1] Loshchilov and Hutter. "SGDR: stochastic gradient descent with warm restarts." arXiv:1608.03983 (2016).
       One cycle, without restarts.

    Examples
    --------
    >>> round(Cosine(final_factor=0.1).factor(50, 100), 12)
    0.55
    """

    final_factor: float = 0.0
    """Factor at the horizon, in [0, 1]."""

    def __post_init__(self) -> None:
        require_fraction("final_factor", self.final_factor, zero=True)

    @override
    def factor(self, position: int, horizon: int) -> float:
        share = min(1.0, position / horizon)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * share)) / 2
