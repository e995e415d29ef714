"""Polynomial decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction, require_positive


@final
@SCHEDULES.register("polynomial")
@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial(AbstractSchedule):
    """Follow a power of the share that is left, from the peak to ``final_factor`` at the horizon.

    Agrees with ``torch.optim.lr_scheduler.PolynomialLR(total_iters=horizon)``, and above a ``final_factor`` of 0 with
    ``transformers.get_polynomial_decay_schedule_with_warmup``. Its mean over the horizon is ``1 / (power + 1)``.

    References
    ----------
    .. [1] Chen et al. "DeepLab." arXiv:1606.00915 (2016), section 4.1.2, which calls it "poly" and uses a power of 0.9.

    Examples
    --------
    >>> Polynomial(power=2.0).factor(50, horizon=100)
    0.25
    """

    power: float = 2.0
    """Exponent, above 0; 1 is the linear schedule."""
    final_factor: float = 0.0
    """Factor at the horizon, in [0, 1]."""

    def __post_init__(self) -> None:
        require_positive("power", self.power)
        require_fraction("final_factor", self.final_factor, zero=True)

    @override
    def factor(self, position: int, horizon: int) -> float:
        left = max(0.0, 1 - position / horizon)
        return float(self.final_factor + (1 - self.final_factor) * left**self.power)
