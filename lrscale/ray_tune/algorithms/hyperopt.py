"""HyperOpt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin, startup


@final
@ALGORITHMS.register("hyperopt")
@dataclass(frozen=True, slots=True, kw_only=True)
class HyperOpt(AbstractAlgorithm):
    """A tree-structured Parzen estimator (hyperopt)."""

    title: ClassVar[str] = "HyperOpt (HyperOptSearch)"
    pins: ClassVar[tuple[Pin, ...]] = (Pin(package="hyperopt", tested="0.3.0"),)

    @override
    def build(self, trials: int, seed: int) -> Any:
        from ray.tune.search.hyperopt import HyperOptSearch

        return HyperOptSearch(random_state_seed=seed, n_initial_points=startup(trials))
