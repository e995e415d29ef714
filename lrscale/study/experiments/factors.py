"""Factors: how the best LR and the gap between training and validation move with any entry of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import FALLBACK_START, FEWEST_SEEDS, start_lr
from lrscale.study.factors.answer import factors_finding
from lrscale.study.factors.coordinates import coordinate_specs, expected_coordinate_specs
from lrscale.study.factors.grid import FactorGrid, factor_grids
from lrscale.study.finding import Finding
from lrscale.study.specs import mean_factor


@final
class Factors(AbstractExperiment):
    """Searches the LR at every value of each factor, the others as the task has them, with paired seeds.

    A factor that is a width of the model also has the outputs of its parts compared over the first steps.
    """

    key: ClassVar[str] = "factors"
    title: ClassVar[str] = "Factors"
    question: ClassVar[str] = "How does the best learning rate move with other settings of the task?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test"})
    importance: ClassVar[int] = 75

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.factors is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        wanted: dict[str, TrialSpec] = {}
        for grid in factor_grids(context):
            for cell, start in grid.walk(_first(context, grid)):
                # Two factors share the trials of the task as it stands.
                wanted |= {spec.trial_id: spec for spec in cell.plan(start)}
            wanted |= {spec.trial_id: spec for spec in coordinate_specs(grid, _first(context, grid))}
        return list(wanted.values())

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [
            spec
            for grid in factor_grids(context)
            for cell in grid.cells
            for spec in cell.cell.at_most(cell.context, FALLBACK_START)
        ] + _checks_of_widths(context)

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        return [
            spec
            for grid in factor_grids(context)
            for cell in grid.cells
            for spec in cell.cell.typical(cell.context, FALLBACK_START)
        ] + _checks_of_widths(context)

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.factors
        assert settings is not None
        fewer = {"seeds": min(settings.seeds, FEWEST_SEEDS)}
        found: list[dict[str, Any]] = [fewer] if settings.seeds > FEWEST_SEEDS else []
        if any(len(values) > 2 for values in settings.factors.values()):
            ends = {name: [values[0], values[-1]] for name, values in settings.factors.items()}
            found.append({**fewer, "factors": ends})
        return found

    @override
    def analyse(self, context: Context) -> Finding:
        grids = factor_grids(context)
        trials: list[dict[str, list[Trial]]] = []
        checked = []
        for grid in grids:
            checked.append(context.finished(coordinate_specs(grid, _first(context, grid))))
            starts = {cell.level.label: start for cell, start in grid.walk(_first(context, grid))}
            trials.append(
                {
                    cell.level.label: cell.trials(starts[cell.level.label]) if cell.level.label in starts else []
                    for cell in grid.cells
                }
            )
        return factors_finding(self, context, grids, trials, checked)


def _checks_of_widths(context: Context) -> list[TrialSpec]:
    return [spec for grid in factor_grids(context) for spec in expected_coordinate_specs(grid)]


def _first(context: Context, grid: FactorGrid) -> float:
    cell = grid.cells[grid.reference].cell
    return start_lr(context, cell.batch_size, mean_factor(cell.schedule, cell.settings))


EXPERIMENTS.register(Factors.key)(Factors())
