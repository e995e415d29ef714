"""Optuna through Ray Tune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin, startup


@final
@ALGORITHMS.register("optuna")
@dataclass(frozen=True, slots=True, kw_only=True)
class Optuna(AbstractAlgorithm):
    """A tree-structured Parzen estimator (optuna)."""

    title: ClassVar[str] = "Optuna (OptunaSearch)"
    pins: ClassVar[tuple[Pin, ...]] = (Pin(package="optuna", tested="5.0.0"),)

    @override
    def build(self, trials: int, seed: int) -> Any:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup(trials))
        return OptunaSearch(sampler=sampler)
