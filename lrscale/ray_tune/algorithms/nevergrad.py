"""Optimizers without gradients by Nevergrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin


@final
@ALGORITHMS.register("nevergrad")
@dataclass(frozen=True, slots=True, kw_only=True)
class Nevergrad(AbstractAlgorithm):
    """Nevergrad: an optimizer without gradients, chosen by itself for the axes and the trials unless it is named."""

    title: ClassVar[str] = "Nevergrad (NevergradSearch)"
    pins: ClassVar[tuple[Pin, ...]] = (Pin(package="nevergrad", tested="1.0.12"),)

    optimizer: str = "NGOpt"
    """Name in Nevergrad's registry."""

    @override
    def build(self, trials: int, seed: int) -> Any:
        import nevergrad
        from ray.tune.search.nevergrad import NevergradSearch

        kind = nevergrad.optimizers.registry[self.optimizer]
        return NevergradSearch(kind, {"budget": trials})
