"""The same batch size from beginning to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.batch_schedules.base import BATCH_SCHEDULES, AbstractBatchSchedule, require_multiple, require_power


@final
@BATCH_SCHEDULES.register("constant")
@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(AbstractBatchSchedule):
    """A multiple of the first batch from the first step on: of use from a branch point, where the batch changes once.

    Examples
    --------
    >>> Constant(times=4).multiple(10, horizon=100)
    4
    """

    times: int = 1
    """The multiple, at least 1."""
    lr_power: float = 0.0
    """Power of the multiple by which the LR is multiplied, at least 0."""

    def __post_init__(self) -> None:
        require_multiple("times", self.times)
        require_power("lr_power", self.lr_power)

    @override
    def multiple(self, position: int, horizon: int, decay: float = 1.0) -> int:
        del position, horizon, decay
        return self.times
