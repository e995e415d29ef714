"""Asynchronous successive halving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import SCHEDULERS, TIME, AbstractScheduler, require_at_least
from lrscale.ray_tune.space import Space


@final
@SCHEDULERS.register("asha")
@dataclass(frozen=True, slots=True, kw_only=True)
class Asha(AbstractScheduler):
    """End what is not among the best of those that have come to a rung so far.

    References
    ----------
    .. [1] Li et al. "A system for massively parallel hyperparameter tuning." arXiv:1810.05934 (2018).
    """

    title: ClassVar[str] = "ASHA"

    reduction_factor: int = 3
    """One of so many passes a rung, and the next rung is at so many times its validations; at least 2."""
    first: int = 1
    """Number of the validation of the first rung, at least 1."""

    def __post_init__(self) -> None:
        require_at_least("reduction_factor", self.reduction_factor, 2)
        require_at_least("first", self.first, 1)

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray.tune.schedulers import ASHAScheduler

        first = min(self.first, length)
        return ASHAScheduler(time_attr=TIME, max_t=length, grace_period=first, reduction_factor=self.reduction_factor)

    @override
    def concern(self, trials: int, length: int) -> str | None:
        if trials < self.reduction_factor:
            return f"ASHA ends nothing with {trials} trials: it takes {self.reduction_factor}."
        return None
