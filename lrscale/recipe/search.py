"""The best setting from few trials: the recipe's `experiments.search`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.errors import did_you_mean
from lrscale.recipe.choices import OneSchedule, long_switch
from lrscale.recipe.engines import EngineChoice, PlannerEngine
from lrscale.recipe.fields import Count, LearningRate, Length, Real, distinct, refuse, require_same_data, shown
from lrscale.recipe.task import Section


def long_prior(value: Any) -> Any:
    """Return ``{"law": "step_law"}`` for its short form, the name alone.

    Examples
    --------
    >>> long_prior("step_law"), long_prior(None)
    ({'law': 'step_law'}, None)
    """
    return {"law": value} if isinstance(value, str) else value


class SearchConfirm(Section):
    """The setting that a search names and its neighbours in LR, trained with seeds that it has not seen."""

    seeds: Count = 2
    """Fresh seeds of each of the three."""


class SearchPrior(Section):
    """A published law that is believed of this model and horizon, within a factor.

    Examples
    --------
    >>> SearchPrior.model_validate({"law": "step_law"}).factor
    3.0
    """

    law: str
    """``step_law``, ``deepseek`` or ``minicpm``."""
    factor: Annotated[Real, Field(gt=1)] = 3.0
    """One standard deviation of its LR and of its batch size, as a factor above 1. Published laws differ by as much for
    one scale."""
    tokens_per_example: Annotated[Real, Field(gt=0)] | None = None
    """Laws count tokens. Default: what the batches of the task show."""

    @model_validator(mode="after")
    def _gives_numbers(self) -> Self:
        # The laws bring numpy, which no other recipe needs.
        from lrscale.laws.published import PUBLISHED_LAWS, Scale

        able = [name for name, law in PUBLISHED_LAWS.items() if law.lr(Scale(params=1e9, tokens=1e11)) is not None]
        if self.law in PUBLISHED_LAWS and self.law not in able:
            refuse(
                f"cannot be {self.law}: the law has exponents only, and starts from a measured setting",
                hint=f"name one of {', '.join(able)}",
            )
        if self.law not in able:
            refuse(f"names the unknown law {shown(self.law)}", hint=did_you_mean(self.law, able))
        return self


class Search(Section):
    """LR and batch size of the lowest loss at equal examples, one trial planned after the other.

    Examples
    --------
    >>> search = Search.model_validate({"batch_sizes": [16, 64], "horizon": "20k examples", "confirm": False})
    >>> search.trials, search.confirm
    (10, None)
    """

    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Global batch sizes to choose from. Default: those of `scaling`."""
    learning_rates: tuple[LearningRate, LearningRate] | None = None
    """Lowest and highest peak LR that may be tried. Default: around what the range test found, else around the module's
    own LR; the planner goes further where the best one lies at the end."""
    horizon: Length | None = None
    """Length of every trial, such as ``40k examples``. Default: that of `scaling`."""
    schedule: OneSchedule | None = None
    """Schedule of every trial, by name or as ``{name, settings}``. Default: that of `scaling`, else cosine."""
    warmup_fraction: Annotated[Real, Field(ge=0, lt=1)] | None = None
    """Share of the horizon spent in linear warm-up, in [0, 1). Default: that of `scaling`, else 0.05."""
    validations: Count = 10
    """Validations over the horizon."""
    trials: Count = 10
    """Most trials before the confirmation; the planner asks for fewer where more would not pay."""
    tolerance: Annotated[Real, Field(ge=0, lt=1)] | None = None
    """Relative difference of the loss that does not matter, in [0, 1): the planner ends the search when naming
    its best now is expected to cost less. Default: that of `target`, else 0.001."""
    confirm: Annotated[SearchConfirm | None, BeforeValidator(long_switch)] = Field(default_factory=SearchConfirm)
    """Fresh trials of the setting that is named and of its neighbours; ``false`` leaves it unconfirmed."""
    prior: Annotated[SearchPrior | None, BeforeValidator(long_prior)] = None
    """A published law that the planner starts from, by name or as ``{law, factor}``. Default: none; what the range test
    confirmed, and the noise scale of its runs, are believed in any case."""
    engine: EngineChoice = Field(default_factory=PlannerEngine)
    """Who plans the trials: ``planner``, which is lrscale's own, ``{name: optuna, sampler, pruner}``, or
    ``{name: ray, scheduler, algorithm}`` on the launcher ``ray``."""
    at_once: Count = 1
    """Trials that are planned together. With `layout.trials_at_once` they run side by side; each is planned knowing
    less than if it waited for the others."""

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        distinct(self.batch_sizes or ())
        if self.learning_rates is not None and self.learning_rates[0] > self.learning_rates[1]:
            lo, hi = self.learning_rates
            refuse(f"has learning_rates from {lo:g} down to {hi:g}", hint=f"write [{hi:g}, {lo:g}]")
        require_same_data(self.horizon, self.batch_sizes)
        if self.prior is not None and self.engine.name != "planner":
            refuse(f"has a prior, which the engine {self.engine.name} takes no part of", hint="leave one of them out")
        if self.engine.name == "optuna" and self.engine.sampler == "cmaes" and len(self.batch_sizes or (0, 0)) < 2:
            refuse("has one batch size, and CMA-ES needs two axes", hint="set engine.sampler: tpe, or name more sizes")
        return self
