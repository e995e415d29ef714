"""Grow the batch where a schedule would decay the learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.batch_schedules.base import BATCH_SCHEDULES, AbstractBatchSchedule, require_multiple, require_power
from lrscale.schedules.base import ROUNDING


@final
@BATCH_SCHEDULES.register("instead_of_decay")
@dataclass(frozen=True, slots=True, kw_only=True)
class InsteadOfDecay(AbstractBatchSchedule):
    """Follow the noise of an LR schedule by the batch size, and leave to the LR what the batch cannot follow.

    Where the schedule has decayed to a share f of its highest factor, the batch is the whole part of f^-power times the
    first, at most `most` times it. The LR is f times the multiple to the power 1 / `power`, so that the noise is that
    of the schedule at every step: what rounding and the bound leave over is decayed.

    The noise of SGD goes with LR / batch [1]_, so that f is worth a batch 1 / f times as large: power 1. That of Adam,
    whose step does not shrink with the gradient, goes with LR / sqrt(batch) [2]_: power 2.

    References
    ----------
    .. [1] Smith et al. "Don't decay the learning rate, increase the batch size." arXiv:1711.00489 (2018). They stop at
       a tenth of the data set.
    .. [2] Malladi et al. "On the SDEs and scaling rules for adaptive gradient algorithms." arXiv:2205.10287 (2022).

    Examples
    --------
    >>> InsteadOfDecay(power=1).multiple(0, 100, decay=0.25), InsteadOfDecay(power=2).multiple(0, 100, decay=0.25)
    (4, 16)
    """

    follows_lr: ClassVar[bool] = True

    power: float = 1.0
    """By which the batch answers a decay, above 0: 1 for SGD, 2 for Adam and others of its kind."""
    most: int = 64
    """Largest multiple of the first batch."""

    def __post_init__(self) -> None:
        require_power("power", self.power, zero=False)
        require_multiple("most", self.most)

    @property
    @override
    def lr_power(self) -> float:
        return 1 / self.power

    @override
    def multiple(self, position: int, horizon: int, decay: float = 1.0) -> int:
        del position, horizon
        # A decay of 0 has no inverse.
        if decay**self.power * self.most <= 1:
            return self.most
        return max(1, min(self.most, int(decay**-self.power * (1 + ROUNDING))))
