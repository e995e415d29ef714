"""The power scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import SCHEDULES, AbstractSchedule, elapsed, require_fraction
from lrscale.schedules.cooldown import Decay, cooldown, require_decay


@final
@SCHEDULES.register("power")
@dataclass(frozen=True, slots=True, kw_only=True)
class Power(AbstractSchedule):
    """Hold the peak, follow a power of the examples seen from where that falls below it, then decay to the end.

    The published form is ``min(peak, a * batch * n ** exponent)`` with ``n`` the tokens seen [1]_. Here its ``a`` and
    the batch size are given by the place where the power crosses the peak, ``knee_fraction`` of the horizon.

    References
    ----------
    .. [1] Shen et al. "Power scheduler: a batch size and token number agnostic learning rate scheduler."
       arXiv:2408.13359 (2024). Source of the exponent; its ``a`` of 4.6 is for tokens.

    Examples
    --------
    >>> Power(knee_fraction=0.2, exponent=-0.5, decay_fraction=0.1).factor(80, horizon=100)
    0.5
    """

    knee_fraction: float = 0.1
    """Share of the horizon at which the power law crosses the peak, in (0, 1]."""
    exponent: float = -0.51
    """Exponent of the examples seen, at most 0."""
    decay_fraction: float = 0.1
    """Share of the horizon spent decaying, in (0, 1]."""
    final_factor: float = 0.0
    """Factor at the horizon, of that where the decay begins, in [0, 1]."""
    decay: Decay = "linear"
    """Shape of the decay."""

    def __post_init__(self) -> None:
        require_fraction("knee_fraction", self.knee_fraction)
        if not self.exponent <= 0:
            raise LrscaleError(f"exponent must be at most 0, not {self.exponent}")
        require_fraction("decay_fraction", self.decay_fraction)
        require_decay(self.decay, self.final_factor)

    @override
    def factor(self, position: int, horizon: int) -> float:
        begin = 1 - self.decay_fraction
        place = elapsed(position, horizon)
        held = max(1.0, min(place, begin) / self.knee_fraction) ** self.exponent
        return float(held) * cooldown(self.decay, (place - begin) / self.decay_fraction, self.final_factor)
