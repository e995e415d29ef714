"""Batch sizes that are given, such as those that branches from checkpoints have found to be safe."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

from typing_extensions import override

from lrscale.batch_schedules.base import BATCH_SCHEDULES, AbstractBatchSchedule, require_multiple, require_power
from lrscale.errors import LrscaleError
from lrscale.schedules.base import ROUNDING

Steps = tuple[tuple[float, int], ...]


@final
@BATCH_SCHEDULES.register("piecewise")
@dataclass(frozen=True, slots=True, kw_only=True)
class Piecewise(AbstractBatchSchedule):
    """Hold each multiple of the first batch from a share of the examples on.

    Examples
    --------
    >>> Piecewise(points=((0, 1), (0.5, 4))).multiple(50, horizon=100)
    4
    """

    points: Steps = ((0.0, 1),)
    """Shares of the examples in [0, 1), rising from 0, each with the multiple that holds from there on."""
    lr_power: float = 0.0
    """Power of the multiple by which the LR is multiplied, at least 0."""

    def __post_init__(self) -> None:
        try:
            points = tuple((share, times) for share, times in self.points)
        except (TypeError, ValueError) as error:
            raise LrscaleError(f"points must be a list of pairs, not {self.points!r}") from error
        object.__setattr__(self, "points", points)
        shares: list[object] = [share for share, _ in points]
        numbers = all(isinstance(share, (int, float)) and not isinstance(share, bool) for share in shares)
        rising = numbers and all(before < after for (before, _), (after, _) in pairwise((*points, (1.0, 1))))
        if not rising or shares[:1] != [0]:
            raise LrscaleError(f"the shares of points must rise from 0 and stay below 1, not {shares}")
        for _, times in points:
            require_multiple("a multiple of points", times)
        require_power("lr_power", self.lr_power)

    @override
    def multiple(self, position: int, horizon: int, decay: float = 1.0) -> int:
        del decay
        here = position / horizon * (1 + ROUNDING)
        return [times for share, times in self.points if share <= here][-1]
