"""Population based training, by perturbation and by a Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.ray_tune.base import SCHEDULERS, TIME, AbstractScheduler, require_at_least
from lrscale.ray_tune.space import LR, PLACE, Space

FEWEST = 4
"""Members of a population below which the quarter that takes over another's state is none."""


def _concern(trials: int) -> str | None:
    return f"A population of {trials} evolves nothing: it takes {FEWEST}." if trials < FEWEST else None


@final
@SCHEDULERS.register("pbt")
@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationBasedTraining(AbstractScheduler):
    """At the end of each segment the worst members take over the state of the best, and a factor of their LR.

    References
    ----------
    .. [1] Jaderberg et al. "Population based training of neural networks." arXiv:1711.09846 (2017).
    """

    title: ClassVar[str] = "population based training"
    algorithms: ClassVar[tuple[str, ...] | None] = ("random",)
    evolves: ClassVar[bool] = True
    multiplies: ClassVar[bool] = True

    factor: float = 1.25
    """The LR is multiplied or divided by it, above 1."""
    resample: float = 0.25
    """Probability with which a fresh setting is drawn instead, in [0, 1]."""

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise LrscaleError(f"factor must be above 1, not {self.factor:g}")
        require_at_least("resample", self.resample, 0)
        require_at_least("1 - resample", 1 - self.resample, 0)

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray import tune
        from ray.tune.schedulers import PopulationBasedTraining as Evolution

        mutations: dict[str, Any] = {LR: tune.loguniform(*space.learning_rates)}
        if PLACE in space.bounds:
            # Of a list, the neighbours of a value are its perturbations.
            mutations[PLACE] = list(range(len(space.batch_sizes)))
        return Evolution(
            time_attr=TIME,
            perturbation_interval=1,
            hyperparam_mutations=mutations,
            resample_probability=self.resample,
            perturbation_factors=(self.factor, 1 / self.factor),
            # Members are compared at equal examples.
            synch=True,
            log_config=False,
        )

    @override
    def concern(self, trials: int, length: int) -> str | None:
        return _concern(trials)


@final
@SCHEDULERS.register("pb2")
@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationBasedBandits(AbstractScheduler):
    """Population based training whose new settings come from a Gaussian process over what members gained.

    References
    ----------
    .. [1] Parker-Holder, Nguyen, Roberts. "Provably efficient online hyperparameter optimization with population-based
       bandits." arXiv:2002.02518 (2020).
    """

    title: ClassVar[str] = "population based bandits (PB2)"
    algorithms: ClassVar[tuple[str, ...] | None] = ("random",)
    evolves: ClassVar[bool] = True

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray.tune.schedulers.pb2 import PB2

        bounds = {name: list(ends) for name, ends in space.bounds.items()}
        return PB2(time_attr=TIME, perturbation_interval=1, hyperparam_bounds=bounds, synch=True, log_config=False)

    @override
    def concern(self, trials: int, length: int) -> str | None:
        return _concern(trials)
