"""Triangular cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import SCHEDULES, AbstractSchedule, elapsed, require_count, require_fraction


@final
@SCHEDULES.register("triangular")
@dataclass(frozen=True, slots=True, kw_only=True)
class Triangular(AbstractSchedule):
    """Move linearly between ``base_factor`` and the peak, ``cycles`` times up and down over the horizon.

    Agrees with ``torch.optim.lr_scheduler.CyclicLR(mode="triangular")``, or ``"triangular2"`` where the height is
    halved after every cycle, of ``step_size_up = horizon / (2 * cycles)``. It brings its own rise and takes no warm-up
    in front.

    References
    ----------
    .. [1] Smith. "Cyclical learning rates for training neural networks." arXiv:1506.01186 (2015), section 3.

    Examples
    --------
    >>> [round(Triangular(cycles=1, base_factor=0.2).factor(step, horizon=4), 12) for step in range(4)]
    [0.2, 0.6, 1.0, 0.6]
    """

    needs_warmup: ClassVar[bool] = False

    cycles: int = 4
    """Cycles in the horizon, at least 1."""
    base_factor: float = 0.1
    """Lowest factor, in [0, 1]."""
    halve: bool = False
    """Whether each cycle is half as high as the one before."""
    cycle_momentum: bool = False
    """Whether momentum (Adam's beta1) moves against the LR."""
    base_momentum: float = 0.8
    """Momentum at the peak, in [0, 1)."""
    max_momentum: float = 0.9
    """Momentum at ``base_factor``, in [0, 1)."""

    def __post_init__(self) -> None:
        require_count("cycles", self.cycles)
        require_fraction("base_factor", self.base_factor, zero=True)
        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise LrscaleError("momenta must satisfy 0 <= base_momentum <= max_momentum < 1")

    @override
    def factor(self, position: int, horizon: int) -> float:
        return self.base_factor + (1 - self.base_factor) * self._height(position, horizon)

    @override
    def momentum(self, position: int, horizon: int) -> float | None:
        if not self.cycle_momentum:
            return None
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._height(position, horizon)

    def _height(self, position: int, horizon: int) -> float:
        cycle, share = divmod(elapsed(position, horizon) * self.cycles, 1.0)
        return (1 - abs(2 * share - 1)) / (2**cycle if self.halve else 1)
