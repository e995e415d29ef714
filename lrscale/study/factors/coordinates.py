"""Short trials at every width of a module: how large the outputs of its parts are while it trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lrscale.laws.parametrisation import CoordinateCheck, coordinate_check
from lrscale.store import Trial, TrialSpec
from lrscale.study.factors.grid import FactorGrid, LevelCell, factor_settings
from lrscale.study.specs import ANY_LR, COORDINATES, make_spec
from lrscale.units import Duration

STEPS = 6
"""Steps of a trial: the initial outputs, those that are judged, and two in which the loss answers."""
SEEDS = 4
"""Of each width: the parts of a module are many, and with three seeds growth of one hardly stands among them."""


def is_width(grid: FactorGrid) -> bool:
    """Whether a factor is a width at which the outputs are compared: positive numbers, two of them at least."""
    settings = factor_settings(grid.cells[0].context.recipe)
    values = {cell.level.value for cell in grid.cells}
    positive = all(value is not None and value > 0 for value in values)
    return settings.is_width(grid.name) and positive and len(values) > 1


def coordinate_specs(grid: FactorGrid, first: float) -> list[TrialSpec]:
    """Return the trials of the check of a width, none while the search of its reference goes on.

    Every width trains at the best LR of the reference: outputs compare at one LR, and at a small one nothing would
    move.

    Parameters
    ----------
    grid : FactorGrid
        A width.
    first : float
        LR at which the search of the reference begins.
    """
    reference = grid.cells[grid.reference]
    if not is_width(grid) or not reference.cell.is_placed(reference.context, first):
        return []
    lr = reference.cell.best_lr(reference.context, first)
    return [] if lr is None else _specs(grid, lr)


def expected_coordinate_specs(grid: FactorGrid) -> list[TrialSpec]:
    """Return as many specs, of the right size, as the check takes."""
    return _specs(grid, ANY_LR) if is_width(grid) else []


def _specs(grid: FactorGrid, lr: float) -> list[TrialSpec]:
    return [_spec(cell, lr, seed) for cell in grid.cells for seed in range(SEEDS)]


def _spec(cell: LevelCell, lr: float, seed: int) -> TrialSpec:
    return make_spec(
        cell.context.recipe,
        peak_lr=lr,
        batch_size=cell.cell.batch_size,
        horizon=Duration(STEPS, "steps"),
        schedule="constant",
        settings={},
        seed=seed,
        stop_on_divergence=False,
        instruments={COORDINATES: {"steps": STEPS}},
    )


def measured_coordinates(grid: FactorGrid, trials: Sequence[Trial]) -> tuple[CoordinateCheck | None, dict[str, Any]]:
    """Return the check of a width, None while no two widths were measured, and the sizes that it stands on.

    Parameters
    ----------
    grid : FactorGrid
    trials : sequence of Trial
        The finished trials of `coordinate_specs`.
    """
    task_of = {
        _key(cell.context.recipe.task.resolved(cell.context.recipe.root)): cell.level.value for cell in grid.cells
    }
    sizes: dict[str, dict[int, dict[float, list[float | None]]]] = defaultdict(lambda: defaultdict(dict))
    kinds: dict[str, str] = {}
    widths: set[float] = set()
    for trial in trials:
        value = task_of.get(_key(dict(trial.spec.task)))
        measured = trial.record.measurements.get(COORDINATES)
        if value is None or measured is None:
            continue
        widths.add(value)
        for part in measured["parts"]:
            sizes[part["name"]][trial.spec.seed][value] = part["sizes"]
            kinds[part["name"]] = part["type"]
    # A part that another width does not have, or a seed that lacks a width, compares with nothing.
    whole = {
        name: {seed: dict(sorted(own.items())) for seed, own in seeds.items() if own.keys() == widths}
        for name, seeds in sizes.items()
    }
    common: dict[str, dict[int, dict[float, list[float | None]]]] = {}
    for name, seeds in reversed(whole.items()):
        # What contains a part and hands on its output is the same output once more.
        if seeds and seeds not in common.values():
            common[name] = seeds
    common = dict(reversed(common.items()))
    shown = {
        "widths": sorted(widths),
        "lr": trials[0].spec.peak_lr if trials else None,
        "parts": [{"name": name, "type": kinds[name], "sizes": _means(seeds)} for name, seeds in common.items()],
    }
    if len(widths) < 2 or not common:
        return None, shown
    return coordinate_check(common), shown


def _means(seeds: dict[int, dict[float, list[float | None]]]) -> list[list[float | None]]:
    """Return the mean over seeds, one row a width, one entry a step."""
    widths = sorted(next(iter(seeds.values())))
    found = []
    for width in widths:
        rows = [own[width] for own in seeds.values()]
        steps = min(len(row) for row in rows)
        found.append([_mean([row[step] for row in rows]) for step in range(steps)])
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def _key(task: dict[str, Any]) -> str:
    return repr(sorted(task.items(), key=lambda one: one[0]))
