"""Linear decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@SCHEDULES.register("linear")
@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(AbstractSchedule):
    """Decay the LR linearly from the peak to ``final_factor`` at the horizon.

    Examples
    --------
    >>> Linear().factor(50, 100)
    0.5
    """

    final_factor: float = 0.0
    """Factor at the horizon, in [0, 1]."""

    def __post_init__(self) -> None:
        require_fraction("final_factor", self.final_factor, zero=True)

    @override
    def factor(self, position: int, horizon: int) -> float:
        return 1 - (1 - self.final_factor) * min(1.0, position / horizon)
