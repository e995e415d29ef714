"""Exponential decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@SCHEDULES.register("exponential")
@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential(AbstractSchedule):
    """Multiply the LR by the same ratio at every step, down to ``final_factor`` at the horizon.

    Agrees with ``torch.optim.lr_scheduler.ExponentialLR`` of ``gamma = final_factor ** (1 / horizon)``. The end is what
    is set here, because a ratio for each step would mean another schedule at every batch size.

    References
    ----------
    .. [1] Li and Arora. "An exponential learning rate schedule for deep learning." arXiv:1910.07454 (2019), for its use
       with normalised layers; the decay itself is older than its papers.

    Examples
    --------
    >>> round(Exponential(final_factor=0.01).factor(50, horizon=100), 12)
    0.1
    """

    final_factor: float = 0.01
    """Factor at the horizon, in (0, 1]."""

    def __post_init__(self) -> None:
        require_fraction("final_factor", self.final_factor)

    @override
    def factor(self, position: int, horizon: int) -> float:
        return float(self.final_factor ** min(1.0, position / horizon))
