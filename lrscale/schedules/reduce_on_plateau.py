"""Decay when the validation loss stops falling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.schedules.base import SCHEDULES, AbstractSchedule, require_fraction


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Held(AbstractSchedule):
    """The same factor until the next validation."""

    level: float

    @override
    def factor(self, position: int, horizon: int) -> float:
        return self.level


@final
@SCHEDULES.register("reduce_on_plateau")
@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceOnPlateau(AbstractSchedule):
    """Multiply the LR by ``gamma`` once more than ``patience`` validations in a row have brought no lower loss.

    No pure function of the position: it follows the validation losses of its own trial, over all ranks, so that it
    depends on how often a trial validates, and its course is known only once it has run. The rule is that of
    ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with ``eps=0`` and the mode ``min`` with a relative threshold.

    References
    ----------
    .. [1] Bengio. "Practical recommendations for gradient-based training of deep architectures." arXiv:1206.5533
       (2012), section 3.1, on lowering the LR where the criterion stops improving.

    Examples
    --------
    >>> schedule = ReduceOnPlateau(patience=1, gamma=0.5)
    >>> told = schedule.told([(10, 2.0), (20, 1.5), (30, 1.6), (40, 1.55)])
    >>> schedule.factor(0, 100), told.factor(40, 100)
    (1.0, 0.5)
    """

    is_pure: ClassVar[bool] = False

    gamma: float = 0.1
    """Multiplier of each reduction, in (0, 1)."""
    patience: int = 1
    """Validations without improvement that are let pass, at least 0."""
    threshold: float = 1e-4
    """Relative fall of the loss that counts as an improvement, in [0, 1)."""
    cooldown: int = 0
    """Validations after a reduction that do not count, at least 0."""
    final_factor: float = 0.0
    """Factor below which it does not go, in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise LrscaleError(f"gamma must be in (0, 1), not {self.gamma}")
        if not 0 <= self.threshold < 1:
            raise LrscaleError(f"threshold must be in [0, 1), not {self.threshold}")
        for name in ("patience", "cooldown"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LrscaleError(f"{name} must be at least 0, not {getattr(self, name)}")
        require_fraction("final_factor", self.final_factor, zero=True)

    @override
    def factor(self, position: int, horizon: int) -> float:
        return 1.0

    @override
    def told(self, validations: Sequence[tuple[int, float]]) -> AbstractSchedule:
        level, best, bad, resting = 1.0, math.inf, 0, 0
        for _, loss in validations:
            if loss < best * (1 - self.threshold):
                best, bad = loss, 0
            else:
                bad += 1
            if resting > 0:
                resting, bad = resting - 1, 0
            if bad > self.patience:
                level, resting, bad = max(level * self.gamma, self.final_factor), self.cooldown, 0
        return _Held(level=level)
