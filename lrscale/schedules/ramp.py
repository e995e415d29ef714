"""The ramp of a range test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import SCHEDULES, AbstractSchedule


@final
@SCHEDULES.register("ramp")
@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp(AbstractSchedule):
    """Multiply the LR by the same ratio at every rung, from ``start_factor`` up to the peak.

    All rungs are equally far apart in log LR, the first included.

    References
    ----------
    .. [1] Smith. "Cyclical learning rates for training neural networks." arXiv:1506.01186 (2015), section 3.3;
       the exponential form is the one in common use.

    Examples
    --------
    >>> [round(Ramp(start_factor=1e-2).factor(step, horizon=3), 6) for step in range(3)]
    [0.01, 0.1, 1.0]
    """

    needs_warmup: ClassVar[bool] = False

    start_factor: float = 1e-7
    """LR of the first rung divided by that of the last, in (0, 1)."""
    hold: int = 1
    """Steps spent on each rung, at least 1; above 1 the ramp is a staircase."""

    def __post_init__(self) -> None:
        if not 0 < self.start_factor < 1:
            raise LrscaleError(f"start_factor must be in (0, 1), not {self.start_factor}")
        if self.hold < 1:
            raise LrscaleError(f"hold must be at least 1, not {self.hold}")

    @override
    def factor(self, position: int, horizon: int) -> float:
        rungs = max(1, -(-horizon // self.hold))
        share = 1.0 if rungs == 1 else min(1.0, (position // self.hold) / (rungs - 1))
        return float(self.start_factor ** (1 - share))
