"""Who plans a search: the recipe's `experiments.search.engine`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.recipe.choices import long_schedule
from lrscale.recipe.fields import Arguments, Count, refuse, shown
from lrscale.recipe.task import Section
from lrscale.stoppers import STOPPERS, AbstractStopper, build_stopper

NO_PRUNER = "none"
"""Name under which every trial trains to its horizon."""


class PlannerEngine(Section):
    """lrscale's own planner, which knows what losses look like over LR and batch size."""

    name: Literal["planner"] = "planner"
    """``planner``."""


class PrunerChoice(Section):
    """A rule by which trials end early, with the settings that differ from its defaults."""

    name: str = NO_PRUNER
    """``none``, or a rule: ``median``, ``successive_halving`` or ``hyperband``."""
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


Engine = PlannerEngine | OptunaEngine
"""A family found by its name; each member has its part of `lrscale.study.engines`."""


def long_engine(value: Any) -> Any:
    """Return ``{"name": "optuna"}`` for its short form ``"optuna"``, and the planner where no name is given."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": "planner", **value} if isinstance(value, Mapping) else value


EngineChoice = Annotated[Engine, Field(discriminator="name"), BeforeValidator(long_engine)]
