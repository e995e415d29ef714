"""A schedule written down point by point."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

from typing_extensions import override

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.schedules.base import ROUNDING, SCHEDULES, AbstractSchedule

Points: TypeAlias = tuple[tuple[float, float], ...]
"""Share of the horizon and factor of the peak, in the order of the shares."""
Between = Literal["constant", "linear"]
BETWEEN: tuple[Between, ...] = ("constant", "linear")
SHOWN = 4
"""Points of which a label tells all."""


@final
@SCHEDULES.register("piecewise")
@dataclass(frozen=True, slots=True, kw_only=True)
class Piecewise(AbstractSchedule):
    """Follow given points: a factor from each share of the horizon on, or straight lines between them.

    So a schedule that was found elsewhere is trained again and compared with the others: population based training
    finds a constant LR for each of its intervals [1]_. The points say the whole course, with its rise if it has one, so
    that no warm-up is put in front.

    References
    ----------
    .. [1] Jaderberg et al. "Population based training of neural networks." arXiv:1711.09846 (2017).

    Examples
    --------
    >>> steps = Piecewise(points=((0.0, 0.5), (0.2, 1.0), (0.6, 0.1)))
    >>> [steps.factor(position, horizon=10) for position in (0, 1, 2, 5, 6, 9)]
    [0.5, 0.5, 1.0, 1.0, 0.1, 0.1]
    >>> Piecewise(points=((0.0, 1.0), (1.0, 0.0)), between="linear").factor(4, horizon=10)
    0.6
    """

    needs_warmup: ClassVar[bool] = False

    points: Points = ((0.0, 1.0),)
    """Pairs of a share of the horizon, in [0, 1], and a factor of the peak, in [0, 1]. The first share is 0, they rise,
    and the largest factor is 1: a peak LR is reached."""
    between: Between = "constant"
    """``constant`` holds each factor up to the next point, ``linear`` joins them; after the last one it is held."""
    called: str = ""
    """What it is called where people read. Default: its points."""

    def __post_init__(self) -> None:
        points = tuple(_pair(point) for point in self.points)
        if not points:
            raise LrscaleError("points of schedule piecewise are empty", hint="write for example [[0, 1], [0.8, 0.1]]")
        shares = [share for share, _ in points]
        if shares[0] != 0:
            raise LrscaleError(f"points must begin at share 0, not {shares[0]:g}")
        for before, after in itertools.pairwise(shares):
            if not before < after <= 1:
                raise LrscaleError(f"shares of points must rise and end by 1: {after:g} follows {before:g}")
        factors = [factor for _, factor in points]
        wrong = next((factor for factor in factors if not 0 <= factor <= 1), None)
        if wrong is not None:
            raise LrscaleError(f"factors of points must be in [0, 1], not {wrong:g}")
        if not math.isclose(max(factors), 1.0):
            raise LrscaleError(
                f"the largest factor of points must be 1, not {max(factors):g}",
                hint="divide all by it, and multiply the peak LR instead",
            )
        if self.between not in BETWEEN:
            raise LrscaleError(f"unknown between {self.between}", hint=did_you_mean(self.between, BETWEEN))
        # Settings come from YAML and JSON, as lists, and equal schedules are to be equal.
        object.__setattr__(self, "points", points)

    @override
    def factor(self, position: int, horizon: int) -> float:
        share = position / horizon
        after = bisect.bisect_right(self.points, share + ROUNDING, key=lambda point: point[0])
        start, factor = self.points[after - 1]
        if self.between == "constant" or after == len(self.points):
            return factor
        end, then = self.points[after]
        return factor + (then - factor) * (share - start) / (end - start)

    @property
    @override
    def label(self) -> str:
        """Its name in texts and legends: what it is called, else its points, the first and the last of many."""
        if self.called:
            return self.called
        told = [f"{self.points[0][1]:.3g}", *(f"{factor:.3g} from {100 * at:.3g} %" for at, factor in self.points[1:])]
        if len(told) > SHOWN:
            told = [*told[: SHOWN - 1], f"{len(told) - SHOWN} more", told[-1]]
        return f"piecewise {self.between} ({', '.join(told)})"


def _pair(point: Any) -> tuple[float, float]:
    pair = isinstance(point, Sequence) and not isinstance(point, str) and len(point) == 2
    numbers = pair and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in point)
    if not numbers or not all(math.isfinite(one) for one in point):
        raise LrscaleError(
            f"a point of schedule piecewise is a share and a factor, not {point!r}", hint="write for example [0.8, 0.1]"
        )
    return float(point[0]), float(point[1])
