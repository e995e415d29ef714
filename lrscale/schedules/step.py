"""Step decay at even intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import ROUNDING, SCHEDULES, AbstractSchedule, elapsed, require_fraction


@final
@SCHEDULES.register("step")
@dataclass(frozen=True, slots=True, kw_only=True)
class Step(AbstractSchedule):
    """Multiply the LR by ``gamma`` after every ``every_fraction`` of the horizon.

    Agrees with ``torch.optim.lr_scheduler.StepLR`` of ``step_size = every_fraction * horizon`` where that is whole;
    where it is not, a drop comes with the first step at or past its place.

    References
    ----------
    .. [1] He et al. "Deep residual learning." arXiv:1512.03385 (2015), section 3.4: an LR that is divided by 10.

    Examples
    --------
    >>> [Step(every_fraction=0.5, gamma=0.1).factor(step, horizon=4) for step in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """

    every_fraction: float = 0.3
    """Share of the horizon between two drops, in (0, 1]."""
    gamma: float = 0.1
    """Factor of each drop, in (0, 1]."""

    def __post_init__(self) -> None:
        require_fraction("every_fraction", self.every_fraction)
        require_fraction("gamma", self.gamma)

    @override
    def factor(self, position: int, horizon: int) -> float:
        return float(self.gamma ** int(elapsed(position, horizon) / self.every_fraction + ROUNDING))
