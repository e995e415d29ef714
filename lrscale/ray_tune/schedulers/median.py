"""The median rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import SCHEDULERS, TIME, AbstractScheduler, require_at_least
from lrscale.ray_tune.space import Space


@final
@SCHEDULERS.register("median")
@dataclass(frozen=True, slots=True, kw_only=True)
class Median(AbstractScheduler):
    """End a trial whose best loss so far is above the median of the running means of the others.

    References
    ----------
    .. [1] Golovin et al. "Google Vizier: a service for black-box optimization." KDD 2017, section 3.2.1.
    """

    title: ClassVar[str] = "median stopping"

    startup: int = 3
    """Other trials that have come as far before any is ended, at least 1."""
    first: int = 1
    """Number of the first validation at which a trial may end, at least 1."""

    def __post_init__(self) -> None:
        require_at_least("startup", self.startup, 1)
        require_at_least("first", self.first, 1)

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray.tune.schedulers import MedianStoppingRule

        # Ray's own rule pauses trials while there are too few to compare with, so that others begin: then they train
        # again from their beginning. A slice as long as the horizon keeps them going.
        return MedianStoppingRule(
            time_attr=TIME,
            grace_period=self.first,
            min_samples_required=self.startup,
            min_time_slice=length,
            hard_stop=True,
        )

    @override
    def concern(self, trials: int, length: int) -> str | None:
        if trials <= self.startup:
            return f"Median stopping ends nothing with {trials} trials: it takes {self.startup + 1}."
        return None
