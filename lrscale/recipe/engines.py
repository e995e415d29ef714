"""Who plans a search: the recipe's `experiments.search.engine`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.ray_tune import ALGORITHMS, RETIRED, SCHEDULERS, AbstractAlgorithm, AbstractScheduler, make
from lrscale.recipe.choices import long_schedule
from lrscale.recipe.fields import Arguments, Count, refuse, shown
from lrscale.recipe.task import Section
from lrscale.stoppers import STOPPERS, AbstractStopper, build_stopper

NO_PRUNER = "none"
"""Name under which every trial trains to its horizon."""


class PrunerChoice(Section):
    """A rule by which trials end early, with the settings that differ from its defaults."""

    name: str = NO_PRUNER
    """``none``, or a rule: ``median``, ``successive_halving``, ``hyperband``, ``survivors``, which knows of the LR's
    decay, or ``predicted``, which predicts the loss at the horizon."""
    settings: Arguments = Field(default_factory=dict)
    """The rule's own fields, such as ``reduction_factor``."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = [NO_PRUNER, *STOPPERS]
        if self.name not in known:
            refuse(f"names the unknown pruner {shown(self.name)}", hint=did_you_mean(self.name, known))
        if self.name == NO_PRUNER and self.settings:
            refuse("takes no settings: no trial ends early", hint=f"name one of {', '.join(STOPPERS)}")
        try:
            self.stopper()
        except LrscaleError as error:
            refuse(f"cannot be used: {error.message}", hint=error.hint)
        return self

    def stopper(self) -> AbstractStopper | None:
        """Return the rule; None where every trial trains to its horizon."""
        return None if self.name == NO_PRUNER else build_stopper(self.name, self.settings)


class PlannerEngine(Section):
    """lrscale's own planner, which knows what losses look like over LR and batch size.

    Examples
    --------
    >>> PlannerEngine.model_validate({"pruner": "survivors"}).pruner.name
    'survivors'
    """

    name: Literal["planner"] = "planner"
    """``planner``."""
    pruner: Annotated[PrunerChoice, BeforeValidator(long_schedule)] = Field(default_factory=PrunerChoice)
    """The rule by which trials end early, by name or as ``{name, settings}``. A trial that it ends is never named;
    the planner is told what its loss would have come to, as far as completed trials tell it. Default: ``none``."""


class OptunaEngine(Section):
    """A sampler and a pruner of Optuna (extra ``optuna``); for ``cmaes`` the package of that name as well.

    Examples
    --------
    >>> engine = OptunaEngine.model_validate({"name": "optuna", "pruner": "hyperband"})
    >>> engine.sampler, engine.pruner.name
    ('tpe', 'hyperband')
    """

    name: Literal["optuna"]
    """``optuna``."""
    sampler: Literal["tpe", "gp", "cmaes", "random"] = "tpe"
    """``tpe``, ``gp``, ``cmaes`` or ``random``."""
    startup: Count | None = None
    """Random trials before the sampler begins to learn. Default: Optuna's own, at most a third of `trials`."""
    pruner: Annotated[PrunerChoice, BeforeValidator(long_schedule)] = Field(default_factory=PrunerChoice)
    """The rule by which trials end early, by name or as ``{name, settings}``. A trial that it ends has no loss at equal
    examples, and is never named. Default: ``none``."""


class SchedulerChoice(Section):
    """A scheduler of Ray Tune, with the settings that differ from its defaults."""

    name: str = "asha"
    """``none``, ``asha``, ``median``, ``hyperband``, ``bohb``, ``pbt`` or ``pb2``."""
    settings: Arguments = Field(default_factory=dict)
    """The scheduler's own fields, such as ``reduction_factor``."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        _made(self.scheduler)
        return self

    def scheduler(self) -> AbstractScheduler:
        """Return the scheduler."""
        return make(SCHEDULERS, self.name, self.settings)


class AlgorithmChoice(Section):
    """A search algorithm of Ray Tune, with the settings that differ from its defaults."""

    name: str = "random"
    """``random``, ``bayesopt``, ``bohb``, ``nevergrad``, ``optuna``, ``hyperopt`` or ``zoopt``."""
    settings: Arguments = Field(default_factory=dict)
    """The algorithm's own fields."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name in RETIRED:
            why, remedy = RETIRED[self.name]
            refuse(f"cannot be {self.name}: {why}", hint=remedy)
        _made(self.algorithm)
        return self

    def algorithm(self) -> AbstractAlgorithm:
        """Return the algorithm."""
        return make(ALGORITHMS, self.name, self.settings)


class RayEngine(Section):
    """A scheduler and a search algorithm of Ray Tune, on the cluster of the launcher ``ray``.

    Examples
    --------
    >>> engine = RayEngine.model_validate({"name": "ray", "scheduler": "bohb"})
    >>> engine.scheduler.name, engine.chosen.name
    ('bohb', 'bohb')
    """

    name: Literal["ray"]
    """``ray``."""
    scheduler: Annotated[SchedulerChoice, BeforeValidator(long_schedule)] = Field(default_factory=SchedulerChoice)
    """Which trials go on, by name or as ``{name, settings}``. Default: ``asha``."""
    algorithm: Annotated[AlgorithmChoice | None, BeforeValidator(long_schedule)] = None
    """Which settings are tried, by name or as ``{name, settings}``. Default: ``bohb`` with the scheduler of that name,
    else ``random``."""

    @property
    def chosen(self) -> AlgorithmChoice:
        """The algorithm, or the default one."""
        if self.algorithm is not None:
            return self.algorithm
        fixed = self.scheduler.scheduler().algorithms
        return AlgorithmChoice(name="random" if fixed is None else fixed[0])

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        scheduler, name = self.scheduler.scheduler(), self.chosen.name
        if scheduler.algorithms is not None and name not in scheduler.algorithms:
            fixed = scheduler.algorithms[0]
            refuse(f"has scheduler {self.scheduler.name}, which goes with algorithm {fixed}, not {name}")
        if name == "bohb" and self.scheduler.name != "bohb":
            refuse(f"has algorithm bohb, which goes with scheduler bohb, not {self.scheduler.name}")
        return self


def _made(make_it: Callable[[], object]) -> None:
    try:
        make_it()
    except LrscaleError as error:
        refuse(f"cannot be used: {error.message}", hint=error.hint)


Engine = PlannerEngine | OptunaEngine | RayEngine
"""A family found by its name; each member has its part of `lrscale.study.engines`."""


def long_engine(value: Any) -> Any:
    """Return ``{"name": "optuna"}`` for its short form ``"optuna"``, and the planner where no name is given."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": "planner", **value} if isinstance(value, Mapping) else value


EngineChoice = Annotated[Engine, Field(discriminator="name"), BeforeValidator(long_engine)]
