"""Bayesian optimization by the package of that name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm, Pin, startup


@final
@ALGORITHMS.register("bayesopt")
@dataclass(frozen=True, slots=True, kw_only=True)
class BayesOpt(AbstractAlgorithm):
    """A Gaussian process with an upper confidence bound (bayesian-optimization)."""

    title: ClassVar[str] = "Bayesian optimization (BayesOptSearch)"
    pins: ClassVar[tuple[Pin, ...]] = (Pin(package="bayesian-optimization", tested="1.4.0", refused_from=(2,)),)

    @override
    def build(self, trials: int, seed: int) -> Any:
        from ray.tune.search.bayesopt import BayesOptSearch

        # Settings that are asked for again are in the study already. Without them the search would end early.
        return BayesOptSearch(random_state=seed, random_search_steps=startup(trials), skip_duplicate=False)
