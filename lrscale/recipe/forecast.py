"""Cells of smaller models and shorter horizons: the recipe's `experiments.forecast`."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from lrscale.recipe.fields import Count, Length, Real, distinct, require_same_data
from lrscale.recipe.task import Section
from lrscale.recipe.variants import Variants, label_of, require_task_paths


class Forecast(Section):
    """The best LR and batch over model sizes and horizons, and what they say about the target.

    Schedule and warm-up are those of `scaling`, or cosine with a twentieth of warm-up.

    Examples
    --------
    >>> cells = Forecast.model_validate({"factors": {"task.model.init_args.width": [32, 64]}})
    >>> cells.factors
    ({'task.model.init_args.width': 32}, {'task.model.init_args.width': 64})
    """

    factors: Annotated[Variants, Field(min_length=1)] = ({},)
    """Models, as entries of the task with a list of values each, which move together, or as a list of
    ``{name: small, task.model.init_args.width: 32}``. From small to large. Default: the task as it is."""
    horizons: Annotated[tuple[Length, ...], Field(min_length=1)] | None = None
    """Lengths of training, from short to long. Default: that of `scaling`."""
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Global batch sizes of every cell. Default: those of `scaling`. The best one of each cell should lie inside: three
    that span a factor of 16 say more than three neighbours."""
    seeds: Count = 1
    """Seed replicates of every setting; the cells hold each other up, and more cells say more than more seeds."""
    ratio: Annotated[Real, Field(gt=1)] = 2.0
    """Ratio of neighbouring LRs, above 1."""
    max_learning_rates: Annotated[Count, Field(ge=3)] = 7
    """Most LRs tried at one batch size of a cell, at least 3."""
    validations: Count = 4
    """Validations over the horizon."""

    @model_validator(mode="after")
    def _separate(self) -> Self:
        for one in self.factors:
            require_task_paths(one)
        distinct([dict(one) for one in self.factors])
        distinct([label_of(one) for one in self.factors])
        distinct(self.horizons or ())
        distinct(self.batch_sizes or ())
        for horizon in self.horizons or ():
            require_same_data(horizon, self.batch_sizes)
        return self

    def grid(self) -> list[tuple[int, int]]:
        """Return the places of models and horizons of all cells, small ones first."""
        return list(itertools.product(range(len(self.factors)), range(len(self.horizons or (0,)))))
