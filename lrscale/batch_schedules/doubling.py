"""The batch size doubles at equal distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.batch_schedules.base import (
    BATCH_SCHEDULES,
    AbstractBatchSchedule,
    require_multiple,
    require_power,
    require_share,
)
from lrscale.schedules.base import ROUNDING


@final
@BATCH_SCHEDULES.register("doubling")
@dataclass(frozen=True, slots=True, kw_only=True)
class Doubling(AbstractBatchSchedule):
    """Multiply the batch size by a factor whenever a share of the examples has been seen, up to a bound.

    References
    ----------
    .. [1] Merrill et al. "Critical batch size revisited." arXiv:2505.23971 (2025): double the batch, and raise the LR
       of Adam by the square root of two, whenever the critical batch size allows.

    Examples
    --------
    >>> [Doubling(every_fraction=0.25).multiple(position, horizon=8) for position in range(8)]
    [1, 1, 2, 2, 4, 4, 8, 8]
    """

    every_fraction: float = 0.25
    """Share of the examples between two rises, in (0, 1]."""
    factor: int = 2
    """By which the batch size rises, at least 1."""
    most: int = 64
    """Largest multiple of the first batch."""
    lr_power: float = 0.0
    """Power of the multiple by which the LR is multiplied, at least 0."""

    def __post_init__(self) -> None:
        require_share("every_fraction", self.every_fraction)
        require_multiple("factor", self.factor)
        require_multiple("most", self.most)
        require_power("lr_power", self.lr_power)

    @override
    def multiple(self, position: int, horizon: int, decay: float = 1.0) -> int:
        del decay
        rises = int(position / (self.every_fraction * horizon) * (1 + ROUNDING))
        found = 1
        for _ in range(rises):
            if found >= self.most or self.factor == 1:
                break
            found *= self.factor
        return min(found, self.most)
