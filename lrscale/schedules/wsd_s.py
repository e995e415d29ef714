"""Warm-up, stable, decay, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import ROUNDING, SCHEDULES, AbstractSchedule, elapsed, require_fraction
from lrscale.schedules.cooldown import Decay, cooldown, require_decay


@final
@SCHEDULES.register("wsd_s")
@dataclass(frozen=True, slots=True, kw_only=True)
class WSDS(AbstractSchedule):
    """Hold the peak and decay before each of several ends; after an end, go on at the peak from what was decayed.

    One run gives a decayed model at each of its ends, without going back to a checkpoint from before the decay [1]_.

    References
    ----------
    .. [1] Wen et al. "Understanding warmup-stable-decay learning rates: a river valley loss landscape perspective."
       arXiv:2410.05192 (2024). They decay over a tenth of what was trained by then, linearly in the reciprocal of the
       LR.

    Examples
    --------
    >>> schedule = WSDS(ends=(0.5, 1.0), decay_fraction=0.2, decay="linear", final_factor=0.0)
    >>> [round(schedule.factor(step, horizon=100), 12) for step in (39, 45, 50, 79, 90)]
    [1.0, 0.5, 1.0, 1.0, 0.5]
    """

    ends: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Fractions of the horizon at which a decay ends, in (0, 1] and rising; the last one is 1."""
    decay_fraction: float = 0.1
    """Length of each decay as a share of what was trained when it ends, in (0, 1]."""
    final_factor: float = 0.1
    """Factor at each end, in [0, 1]."""
    decay: Decay = "reciprocal"
    """Shape of the decays."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", tuple(self.ends))
        require_fraction("decay_fraction", self.decay_fraction)
        require_decay(self.decay, self.final_factor)
        inside = all(0 < end <= 1 for end in self.ends)
        if not self.ends or not inside or list(self.ends) != sorted(set(self.ends)) or self.ends[-1] != 1:
            raise LrscaleError(f"ends must be rising fractions in (0, 1], the last one 1, not {list(self.ends)}")
        for earlier, end in zip(self.ends, self.ends[1:], strict=False):
            if end - earlier < self.decay_fraction * end * (1 - ROUNDING):
                raise LrscaleError(
                    f"the decay that ends at {end} would begin before the end at {earlier}",
                    hint="set a smaller decay_fraction, or ends further apart",
                )

    @override
    def factor(self, position: int, horizon: int) -> float:
        place = elapsed(position, horizon)
        end = next((end for end in self.ends if place < end * (1 - ROUNDING)), 1.0)
        length = self.decay_fraction * end
        return cooldown(self.decay, 1 - (end - place) / length, self.final_factor)
