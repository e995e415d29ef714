"""Step decay at chosen places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import ROUNDING, SCHEDULES, AbstractSchedule, elapsed, require_fraction


@final
@SCHEDULES.register("multi_step")
@dataclass(frozen=True, slots=True, kw_only=True)
class MultiStep(AbstractSchedule):
    """Multiply the LR by ``gamma`` at each of some fractions of the horizon.

    Agrees with ``torch.optim.lr_scheduler.MultiStepLR`` of ``milestones = [m * horizon for m in milestones]`` where
    those are whole; where one is not, its drop comes with the first step past it.

    References
    ----------
    .. [1] Zagoruyko and Komodakis. "Wide residual networks." arXiv:1605.07146 (2016), section 3: drops at 30, 60 and
       80 % of the epochs.

    Examples
    --------
    >>> [MultiStep(milestones=(0.5, 0.75), gamma=0.5).factor(step, horizon=4) for step in range(4)]
    [1.0, 1.0, 0.5, 0.25]
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    """Fractions of the horizon in (0, 1), each larger than the one before."""
    gamma: float = 0.1
    """Factor of each drop, in (0, 1]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        require_fraction("gamma", self.gamma)
        inside = all(0 < place < 1 for place in self.milestones)
        if not self.milestones or not inside or list(self.milestones) != sorted(set(self.milestones)):
            raise LrscaleError(f"milestones must be rising fractions in (0, 1), not {list(self.milestones)}")

    @override
    def factor(self, position: int, horizon: int) -> float:
        share = elapsed(position, horizon) + ROUNDING
        return float(self.gamma ** sum(share >= place for place in self.milestones))
