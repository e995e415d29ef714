"""The cells of the factors: an LR search at every value of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.recipe import Recipe
from lrscale.recipe.choices import ScheduleChoice
from lrscale.recipe.factors import Factors, Level, factor_path
from lrscale.store import Trial, TrialSpec
from lrscale.study.cells import Cell
from lrscale.study.experiments.base import Context
from lrscale.study.range_test.ramps import middle
from lrscale.study.specs import WARMUP_FRACTION
from lrscale.study.variants import variant_recipe


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LevelCell:
    """One value of a factor, with what is swept there."""

    level: Level
    context: Context
    """With the recipe of this value."""
    cell: Cell

    def plan(self, start: float) -> list[TrialSpec]:
        """Return every trial wanted so far, the search begun around `start`."""
        return self.cell.plan(self.context, start)

    def trials(self, start: float) -> list[Trial]:
        """Return the finished trials of that search."""
        return self.cell.trials(self.context, start)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FactorGrid:
    """A factor and its values."""

    name: str
    """As the recipe has it."""
    path: str
    """Of the task's entry."""
    cells: tuple[LevelCell, ...]
    reference: int
    """Place of the value that is searched first: that of the task as it stands, else the first."""

    @property
    def short(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def numeric(self) -> bool:
        """Whether every value is a number."""
        return all(cell.level.value is not None for cell in self.cells)

    def walk(self, first: float) -> Iterator[tuple[LevelCell, float]]:
        """Yield the values that can be searched now, each with the LR from which its search begins.

        The reference first; once its best LR is known the others begin there. Where a search begins decides its cost
        only.

        Parameters
        ----------
        first : float
            LR at which the search of the reference begins.
        """
        reference = self.cells[self.reference]
        yield reference, first
        if not reference.cell.is_placed(reference.context, first):
            return
        best = reference.cell.best_lr(reference.context, first)
        for place, cell in enumerate(self.cells):
            if place != self.reference:
                yield cell, first if best is None else best


def factor_grids(context: Context) -> tuple[FactorGrid, ...]:
    """Return each factor with the cells of its values, in the order of the recipe."""
    settings = factor_settings(context.recipe)
    cell = _cell(context.recipe, settings)
    found = []
    for name, levels in settings.levels(context.recipe.task).items():
        cells = tuple(
            LevelCell(
                level=level,
                context=dataclasses.replace(context, recipe=level_recipe(context.recipe, level)),
                cell=cell,
            )
            for level in levels
        )
        own = [place for place, one in enumerate(cells) if one.context.recipe.task == context.recipe.task]
        path = factor_path(context.recipe.task, name)
        found.append(FactorGrid(name=name, path=path, cells=cells, reference=own[0] if own else 0))
    return tuple(found)


def factor_settings(recipe: Recipe) -> Factors:
    """Return the settings of the factors, which the recipe asks for."""
    settings = recipe.experiments.factors
    assert settings is not None
    return settings


def level_recipe(recipe: Recipe, level: Level) -> Recipe:
    """Return the recipe of a value of a factor."""
    return variant_recipe(recipe, level.overrides, where="experiments.factors")


def level_tasks(recipe: Recipe) -> list[Mapping[str, Any]]:
    """Return the tasks of all values of all factors, as specs hold them."""
    settings = recipe.experiments.factors
    levels: Sequence[Level] = (
        () if settings is None else [one for some in settings.levels(recipe.task).values() for one in some]
    )
    return [level_recipe(recipe, level).task.resolved(recipe.root) for level in levels]


def _cell(recipe: Recipe, settings: Factors) -> Cell:
    scaling = recipe.experiments.scaling
    horizon = settings.horizon or (None if scaling is None else scaling.horizon)
    assert horizon is not None  # the schema asks for one where there is no sweep
    schedule = ScheduleChoice(name="cosine") if scaling is None else scaling.schedule
    return Cell(
        batch_size=factor_batch(recipe),
        horizon=horizon,
        schedule=schedule.name,
        settings=schedule.settings,
        warmup_fraction=WARMUP_FRACTION if scaling is None else scaling.warmup_fraction,
        warmup=schedule.warmup,
        warmup_shape=schedule.warmup_shape,
        seeds=settings.seeds,
        ratio=settings.ratio,
        most=settings.max_learning_rates,
        validations=settings.validations,
    )


def factor_batch(recipe: Recipe) -> int:
    """Return the global batch size of the factors' trials."""
    settings, scaling = factor_settings(recipe), recipe.experiments.scaling
    if settings.batch_size is not None:
        return settings.batch_size
    assert scaling is not None  # the schema asks for one where there is no sweep
    return middle(scaling.batch_sizes)
