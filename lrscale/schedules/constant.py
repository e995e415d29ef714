"""Constant learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule


@final
@SCHEDULES.register("constant")
@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(AbstractSchedule):
    """Hold the peak LR.

    Examples
    --------
    >>> Constant().factor(99, 100)
    1.0
    """

    @override
    def factor(self, position: int, horizon: int) -> float:
        del position, horizon
        return 1.0
