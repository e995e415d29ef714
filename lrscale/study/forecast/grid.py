"""The cells of a forecast: each model at each horizon, an LR search at every batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

from lrscale.laws.forecast import ForecastCell
from lrscale.recipe.choices import ScheduleChoice
from lrscale.recipe.variants import label_of, overrides_of
from lrscale.store import Trial
from lrscale.study.cells import Cell
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import usable
from lrscale.study.range_test.ramps import middle
from lrscale.study.specs import WARMUP_FRACTION
from lrscale.study.variants import variant_recipe
from lrscale.units import Duration


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleCell:
    """One model at one horizon."""

    label: str
    context: Context
    """With the recipe of this model."""
    batches: Mapping[int, Cell]
    """Ascending."""

    @property
    def reference(self) -> int:
        """The batch size that is searched first."""
        return middle(tuple(self.batches))

    def trials(self, starts: Mapping[int, float]) -> list[Trial]:
        """Return the finished trials, given where the search of each batch size began."""
        return [trial for size, start in starts.items() for trial in self.batches[size].trials(self.context, start)]


def scale_cells(context: Context) -> dict[tuple[int, int], ScaleCell]:
    """Return the cell of every model and horizon by its places, small ones first."""
    settings, scaling = context.recipe.experiments.forecast, context.recipe.experiments.scaling
    assert settings is not None
    sizes = settings.batch_sizes or (scaling.batch_sizes if scaling is not None else ())
    horizons = settings.horizons or ((scaling.horizon,) if scaling is not None else ())
    schedule = scaling.schedule if scaling is not None else ScheduleChoice(name="cosine")
    warmup = scaling.warmup_fraction if scaling is not None else WARMUP_FRACTION
    found = {}
    for model, length in settings.grid():
        variant, horizon = settings.factors[model], horizons[length]
        own = replace(
            context, recipe=variant_recipe(context.recipe, overrides_of(variant), where="experiments.forecast.factors")
        )
        found[model, length] = ScaleCell(
            label=", ".join(filter(None, [label_of(variant), str(horizon)])),
            context=own,
            batches={
                size: Cell(
                    batch_size=size,
                    horizon=_in_examples(horizon, size),
                    schedule=schedule.name,
                    settings=schedule.settings,
                    warmup_fraction=warmup,
                    warmup=schedule.warmup,
                    warmup_shape=schedule.warmup_shape,
                    seeds=settings.seeds,
                    ratio=settings.ratio,
                    most=settings.max_learning_rates,
                    validations=settings.validations,
                )
                for size in sorted(sizes)
            },
        )
    return found


def _in_examples(horizon: Duration, size: int) -> Duration:
    return Duration(horizon.value * size, "examples") if horizon.unit == "steps" else horizon


def walk(
    cells: Mapping[tuple[int, int], ScaleCell], first: float
) -> Iterator[tuple[ScaleCell, dict[int, float], bool]]:
    """Yield each cell with the LR from which the search of its batch sizes begins, as far as that is known.

    The middle batch size of a cell begins at the best LR of the next shorter horizon, or of the next smaller model; the
    others at that of the middle one, by the square-root rule. Where a search begins decides its cost only.

    Yields
    ------
    cell : ScaleCell
    starts : dict of int to float
        Batch sizes that can be searched now.
    placed : bool
        Whether all can.
    """
    best: dict[tuple[int, int], float] = {}
    for (model, length), cell in cells.items():
        smaller = (model, length - 1) if length else (model - 1, length)
        if smaller in cells and smaller not in best:
            yield cell, {}, False
            continue
        start = best.get(smaller, first)
        middle_cell = cell.batches[cell.reference]
        starts = {cell.reference: start}
        if not middle_cell.is_placed(cell.context, start):
            yield cell, starts, False
            continue
        found = middle_cell.best_lr(cell.context, start)
        centre = start if found is None else found
        best[model, length] = centre
        starts |= {size: centre * math.sqrt(size / cell.reference) for size in cell.batches if size != cell.reference}
        yield cell, dict(sorted(starts.items())), True


def measured_cell(cell: ScaleCell, trials: list[Trial]) -> ForecastCell | None:
    """Return the runs of a cell as the laws take them; None while no trial says how large the model is.

    The model size is the number of parameters that the trials counted in the module itself.
    """
    kept, diverged = usable(
        sorted(trials, key=lambda one: (one.spec.global_batch_size, one.spec.peak_lr, one.spec.seed))
    )
    sizes = {int(trial.record.facts["parameters"]) for trial in kept if trial.record.facts.get("parameters")}
    if len(sizes) != 1:
        return None
    return ForecastCell(
        label=cell.label,
        params=float(sizes.pop()),
        horizon=float(max(trial.spec.examples for trial in kept)),
        lr=tuple(trial.spec.peak_lr for trial in kept),
        batch=tuple(float(trial.spec.global_batch_size) for trial in kept),
        loss=tuple(None if bad else trial.record.final_loss for trial, bad in zip(kept, diverged, strict=True)),
    )
