"""What a budget leaves and keeps out, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.recipe import Recipe, compare_recipes, with_settings
from lrscale.study.budget.allocate import Need
from lrscale.study.planned import PlannedExperiment
from lrscale.units import time_text


def need_text(need: Need) -> str:
    """Return what something takes.

    Examples
    --------
    >>> need_text(Need(trials=12, examples=270_000, seconds=95.0)), need_text(Need(trials=1, examples=64, seconds=None))
    ('12 trials, 270,000 examples, about 1 min 35 s', '1 trial, 64 examples')
    """
    told = f"{need.trials:,} trial{'' if need.trials == 1 else 's'}, {need.examples:,} examples"
    return told if need.seconds is None else f"{told}, about {time_text(need.seconds)}"


def change_text(change: str) -> str:
    """Return a changed setting without the way to it.

    Examples
    --------
    >>> change_text("experiments.scaling.seeds: 3 -> 2"), change_text("experiments.range_test.confirm: {...} -> None")
    ('seeds 3 -> 2', 'confirm off')
    >>> change_text("experiments.throughput.devices: None -> [2]")
    'devices default -> [2]'
    """
    path, _, values = change.partition(": ")
    name = ".".join(path.split(".")[2:])
    if values.endswith(" -> None"):
        return f"{name} off"
    return f"{name} {values.replace('None -> ', 'default -> ')}"


def changes(recipe: Recipe, key: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what other settings of an experiment change in a recipe, as ``seeds 3 -> 2``."""
    if not settings:
        return ()
    found = compare_recipes(recipe.dump(), with_settings(recipe, {key: settings}).dump())
    return tuple(change_text(str(change)) for change in found)


def changes_text(recipe: Recipe, key: str, settings: Mapping[str, Any]) -> str:
    """Return the same as one text."""
    return ", ".join(changes(recipe, key, settings))


def budget_lines(planned: Sequence[PlannedExperiment]) -> list[str]:
    """Return a sentence for each question of which a budget leaves less, in the order in which it is given."""
    lines = []
    for entry in sorted(planned, key=lambda one: one.importance):
        if entry.verdict == "reduced":
            whole = "" if entry.whole is None else f"; as asked it would take {need_text(entry.whole)}"
            lines.append(f"{entry.name} is reduced: {', '.join(entry.changes)}{whole}")
        elif entry.verdict == "left out":
            lines.append(f"{entry.name} is left out: it would take {left_out_text(entry.need, entry.least)}")
    return lines


def left_out_text(whole: Need, least: Need | None) -> str:
    """Return what a question takes that is left out, and what its cheapest form would.

    Examples
    --------
    >>> left_out_text(Need(trials=14, examples=1400, seconds=None), Need(trials=5, examples=500, seconds=None))
    '14 trials, 1,400 examples; reduced as far as it goes 5 trials, 500 examples'
    """
    return need_text(whole) if least is None else f"{need_text(whole)}; reduced as far as it goes {need_text(least)}"
