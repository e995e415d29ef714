"""No scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import SCHEDULERS, AbstractScheduler
from lrscale.ray_tune.space import Space


@final
@SCHEDULERS.register("none")
@dataclass(frozen=True, slots=True, kw_only=True)
class Unhindered(AbstractScheduler):
    """Train every trial to its horizon."""

    title: ClassVar[str] = "no early end"

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray.tune.schedulers import FIFOScheduler

        return FIFOScheduler()
