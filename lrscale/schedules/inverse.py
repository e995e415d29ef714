"""Inverse decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@SCHEDULES.register("inverse")
@dataclass(frozen=True, slots=True, kw_only=True)
class Inverse(AbstractSchedule):
    """Decay as ``s / (s + t)`` with a time scale ``s`` that is a fraction of the horizon.

    The gain of stochastic approximation: its sum diverges while that of its square does not [1]_. Agrees with
    ``torch.optim.lr_scheduler.LambdaLR`` of ``1 / (1 + t / s)``, and with Keras's ``InverseTimeDecay``.

    References
    ----------
    .. [1] Robbins and Monro. "A stochastic approximation method." Ann. Math. Statist. 22(3) (1951).

    Examples
    --------
    >>> Inverse(timescale_fraction=0.25).factor(75, horizon=100)
    0.25
    """

    timescale_fraction: float = 0.05
    """Time scale of the decay as a share of the horizon, in (0, 1]."""

    def __post_init__(self) -> None:
        require_fraction("timescale_fraction", self.timescale_fraction)

    @override
    def factor(self, position: int, horizon: int) -> float:
        timescale = self.timescale_fraction * horizon
        return timescale / (timescale + position)
