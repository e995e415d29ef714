"""Forecast: the best LR, batch and loss of a larger model or a longer horizon, from small cells."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import FALLBACK_START, start_lr, tolerance
from lrscale.study.finding import Finding
from lrscale.study.forecast.answer import forecast_finding
from lrscale.study.forecast.grid import ScaleCell, measured_cell, scale_cells, walk
from lrscale.study.looking import TARGET_PARAMETERS
from lrscale.study.specs import mean_factor


@final
class Forecast(AbstractExperiment):
    """Searches the LR at a few batch sizes of small models and short horizons, and carries them to the target."""

    key: ClassVar[str] = "forecast"
    title: ClassVar[str] = "Forecast to the target's scale"
    question: ClassVar[str] = "Which learning rate and batch size will be best for a larger model or a longer run?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test"})
    importance: ClassVar[int] = 80

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.forecast is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        cells = scale_cells(context)
        wanted: list[TrialSpec] = []
        for cell, starts, _ in walk(cells, _first(context, cells)):
            for size, start in starts.items():
                wanted += cell.batches[size].plan(cell.context, start)
        return wanted

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [
            spec
            for cell in scale_cells(context).values()
            for batch in cell.batches.values()
            for spec in batch.at_most(cell.context, FALLBACK_START)
        ]

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        return [
            spec
            for cell in scale_cells(context).values()
            for batch in cell.batches.values()
            for spec in batch.typical(cell.context, FALLBACK_START)
        ]

    @override
    def analyse(self, context: Context) -> Finding:
        cells = scale_cells(context)
        trials: list[Trial] = []
        measured, facts = [], []
        for cell, starts, _ in walk(cells, _first(context, cells)):
            own = cell.trials(starts)
            trials += own
            facts += [trial.record.facts for trial in own]
            runs = measured_cell(cell, own)
            if runs is not None:
                measured.append(runs)
        lengths = Counter(int(one["sequence_length"]) for one in facts if one.get("sequence_length"))
        return forecast_finding(
            self,
            measured,
            target=context.recipe.target,
            tokens_per_example=next(iter(lengths)) if len(lengths) == 1 else None,
            tolerance=tolerance(context.recipe),
            training_examples=context.training_examples,
            target_parameters=context.facts.get(TARGET_PARAMETERS),
            trial_ids=tuple(trial.trial_id for trial in trials),
            monitor=next((trial.record.monitor for trial in trials if trial.record.monitor), None),
            wanted=len(cells),
        )


def _first(context: Context, cells: dict[tuple[int, int], ScaleCell]) -> float:
    cell = next(iter(cells.values()))
    batch = cell.batches[cell.reference]
    settings: dict[str, Any] = dict(batch.settings)
    return start_lr(context, batch.batch_size, mean_factor(batch.schedule, settings))


EXPERIMENTS.register(Forecast.key)(Forecast())
