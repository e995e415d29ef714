"""The model of BOHB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin


@final
@ALGORITHMS.register("bohb")
@dataclass(frozen=True, slots=True, kw_only=True)
class Bohb(AbstractAlgorithm):
    """Kernel densities of good and bad settings at each rung (hpbandster); it goes with the scheduler of that name."""

    title: ClassVar[str] = "BOHB (TuneBOHB)"
    limits_itself: ClassVar[bool] = True
    pins: ClassVar[tuple[Pin, ...]] = (
        Pin(package="hpbandster", tested="0.7.4"),
        Pin(package="ConfigSpace", tested="1.2.2"),
    )

    @override
    def build(self, trials: int, seed: int) -> Any:
        from ray.tune.search.bohb import TuneBOHB

        return TuneBOHB(seed=seed)
