"""Optimizers without gradients by Nevergrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin

WORKERS = 2
"""What it is told of trials side by side, be there as many or not: told of one, some optimizers wait for its answer."""


@final
@ALGORITHMS.register("nevergrad")
@dataclass(frozen=True, slots=True, kw_only=True)
class Nevergrad(AbstractAlgorithm):
    """Nevergrad: an optimizer without gradients, by default the (1+1) evolution strategy.

    Its own choice, ``NGOpt``, is no default: for few trials one at a time it takes Cobyla, which waits for each answer,
    and for more at a time a model that fails with numpy 2 (nevergrad 1.0.12). On a parabola over three decades, its
    bottom near either end or near the middle, the default comes within 0.24 decades of it in 8 trials and 0.13 in 20,
    in the median of three seeds.
    """

    title: ClassVar[str] = "Nevergrad (NevergradSearch)"
    pins: ClassVar[tuple[Pin, ...]] = (Pin(package="nevergrad", tested="1.0.12"),)

    optimizer: str = "OnePlusOne"
    """Name in Nevergrad's registry."""

    @override
    def build(self, trials: int, seed: int) -> Any:
        import nevergrad
        from ray.tune.search.nevergrad import NevergradSearch

        kind = nevergrad.optimizers.registry[self.optimizer]
        if kind.no_parallelization:
            raise LrscaleError(
                f"Nevergrad's {self.optimizer} waits for each answer before it asks again, and would wait for ever for "
                "that of a trial that was lost",
                hint="choose another experiments.search.engine.algorithm.optimizer, such as OnePlusOne, PSO or TBPSA",
            )
        return NevergradSearch(kind, {"budget": trials, "num_workers": WORKERS})
