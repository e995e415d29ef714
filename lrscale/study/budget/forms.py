"""The forms in which a budget leaves the questions of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from lrscale.errors import LrscaleError
from lrscale.recipe import Recipe, with_settings
from lrscale.study.budget.allocate import Ask, allocate
from lrscale.study.budget.allowance import Allowance
from lrscale.study.budget.words import changes
from lrscale.study.experiments.base import AbstractExperiment, Context
from lrscale.study.planned import PlannedExperiment, Verdict, estimate, unknown_cost

MakeContext = Callable[[Recipe], Context]
"""From a recipe to what its experiments may look at."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """What a budget leaves of each question. `choose_forms` makes it."""

    planned: tuple[PlannedExperiment, ...]
    """In the order of the experiments; of a question left out what it would take."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Experiment -> settings that take the place of the recipe's."""

    @property
    def left_out(self) -> frozenset[str]:
        """Keys of the questions that the budget leaves out."""
        return frozenset(entry.name for entry in self.planned if entry.verdict == "left out")

    def reserved(self, key: str, left: Allowance) -> Allowance:
        """Return what an experiment may spend so that the others still have what they were given."""
        for entry in self.planned:
            if entry.name != key and entry.verdict != "left out":
                left = entry.need.taken_from(left)
        return dataclasses.replace(
            left,
            trials=None if left.trials is None else max(0, left.trials),
            examples=None if left.examples is None else max(0, left.examples),
            seconds=None if left.seconds is None else max(0.0, left.seconds),
        )


def choose_forms(
    experiments: Sequence[AbstractExperiment],
    recipe: Recipe,
    left: Allowance,
    context_of: MakeContext,
    begun: Mapping[str, Mapping[str, Any]] | None = None,
) -> Forms:
    """Return the forms that fit an allowance, the full ones where nothing bounds it or no time is known.

    Parameters
    ----------
    experiments : sequence of AbstractExperiment
        Those that are still to run.
    recipe : Recipe
        As it was asked.
    left : Allowance
        What may still be spent.
    context_of : callable
        Makes the context of a recipe.
    begun : mapping or None, optional
        Settings of the questions whose trials have begun in a form, which they keep, or a cheaper one of the same
        trials: what was begun is not thrown away.
    """
    if not left.bounded:
        return Forms(planned=tuple(_estimate(experiment, recipe, context_of) for experiment in experiments))
    options: dict[str, list[tuple[Mapping[str, Any], PlannedExperiment]]] = {}
    for experiment in experiments:
        ladder: list[Mapping[str, Any]] = [{}, *experiment.reductions(recipe)]
        if begun is not None and experiment.key in begun:
            own = begun[experiment.key]
            cheaper = ladder[ladder.index(own) + 1 :] if own in ladder and experiment.nests(recipe) else []
            ladder = [own, *cheaper]
        options[experiment.key] = [
            (settings, _estimate(experiment, with_settings(recipe, {experiment.key: settings}), context_of))
            for settings in ladder
        ]
    chosen = allocate(
        [
            Ask(
                key=experiment.key,
                importance=experiment.importance,
                needs=tuple(entry.need for _, entry in options[experiment.key]),
            )
            for experiment in experiments
        ],
        left,
    )
    planned, reduced = [], {}
    for key, entries in options.items():
        form, whole = chosen[key], entries[0][1]
        settings, entry = entries[form or 0]
        known = whole.seconds is not None or left.seconds is None
        verdict: Verdict | None = None
        if known:
            verdict = "left out" if form is None else "reduced" if settings else "full"
        if settings:
            reduced[key] = settings
        planned.append(
            dataclasses.replace(
                entry,
                verdict=verdict,
                changes=changes(recipe, key, settings),
                whole=whole.need if form else None,
                least=entries[-1][1].need if form is None and len(entries) > 1 else None,
            )
        )
    return Forms(planned=tuple(planned), settings=reduced)


def _estimate(experiment: AbstractExperiment, recipe: Recipe, context_of: MakeContext) -> PlannedExperiment:
    context = context_of(recipe)
    try:
        return estimate(experiment, context)
    except LrscaleError as error:
        if context.facts:
            raise
        # A horizon in epochs has no length before the task has been looked at, which the first run does.
        return unknown_cost(experiment, str(error))
