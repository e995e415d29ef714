"""Search: the LR and batch size of the lowest loss at equal examples, from few trials planned one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.driven import AbstractDriver
from lrscale.study.engines import engine_of
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, Finding
from lrscale.study.search.answer import search_finding
from lrscale.study.search.confirming import Conclusion, confirmation
from lrscale.study.search.course import Course
from lrscale.study.search.setup import Setup
from lrscale.study.stopping_cost import KEY as STOPPING
from lrscale.study.stopping_cost import rule_sentence

CONFIRMED = 3
"""Settings of a confirmation: the named one and its neighbours; a fourth where the fresh seeds say so."""
PLANNER = "planner"
FEWER = (8, 6, 5)
"""Trials that a small budget leaves."""


@final
class Search(AbstractExperiment):
    """Trains what a planner asks for until its best is known well enough, then confirms that with fresh seeds.

    Where `scaling` measures the best LR at every batch size and the law that links them, this only looks for the best
    setting, with a fraction of the trials.
    """

    key: ClassVar[str] = "search"
    title: ClassVar[str] = "Best setting from few trials"
    question: ClassVar[str] = "Which learning rate and batch size give the lowest loss at equal examples?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test"})
    importance: ClassVar[int] = 25

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.search is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        own = engine_of(context.recipe).own_answer(context)
        if own is not None:
            return own.plan()
        course = engine_of(context.recipe).follow(context)
        confirmed = confirmation(context, course)
        fresh = [] if confirmed is None else list(confirmed.specs.values())
        return [*course.wanted, *fresh]

    @override
    def driver(self, context: Context) -> AbstractDriver | None:
        return engine_of(context.recipe).driver(context)

    @override
    def survives_crashes(self, context: Context) -> bool:
        # A round is often a single trial, and modules raise on values that are no longer numbers.
        return any(trial.record.status != "crashed" for trial in context.finished(self.plan(context)))

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        course = engine_of(context.recipe).follow(context)
        count = course.setup.trials - len(course.wanted)
        return self._to_come(context, course, course.setup.sampled(context, count), CONFIRMED + 1)

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        engine = engine_of(context.recipe)
        course = engine.follow(context)
        count = course.setup.trials - len(course.wanted)
        return self._to_come(context, course, engine.sampled(context, course, count), CONFIRMED)

    def _to_come(self, context: Context, course: Course, more: Sequence[TrialSpec], confirmed: int) -> list[TrialSpec]:
        # Those that are known already are of sizes that nobody could foresee.
        wanted = self.plan(context)
        if course.ended != "open":
            return wanted
        return [*wanted, *more, *course.setup.sampled(context, confirmed * course.setup.fresh_seeds)]

    @override
    def side_by_side(self, recipe: Recipe) -> int:
        settings = recipe.experiments.search
        assert settings is not None
        # The next ones are not known before those that are planned together have ended.
        return min(recipe.layout.at_once, settings.at_once)

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.search
        assert settings is not None
        counts = [count for count in FEWER if count < settings.trials]
        # A long search, as other engines take it, is halved first.
        half = settings.trials // 2
        while half > FEWER[0]:
            counts.append(half)
            half //= 2
        found: list[dict[str, Any]] = [{"trials": count} for count in sorted(counts, reverse=True)]
        fewest = min(settings.trials, FEWER[-1])
        if settings.confirm is not None and settings.confirm.seeds > 1:
            found.append({"trials": fewest, "confirm": {"seeds": 1}})
        if settings.confirm is not None:
            found.append({"trials": fewest, "confirm": False})
        return found

    @override
    def nests(self, recipe: Recipe) -> bool:
        # A shorter search is the beginning of a longer one, where nothing is asked for by how long it will be.
        return engine_of(recipe).key == PLANNER

    @override
    def analyse(self, context: Context) -> Finding:
        engine = engine_of(context.recipe)
        own = engine.own_answer(context)
        if own is not None:
            return own.finding(self)
        told = {"name": engine.key, "title": engine.title, "method": engine.method(context.recipe)}
        finding = search_finding(self, Conclusion.of(context, engine.follow(context)), told)
        prior = Setup.of(context.recipe).believed(context).checks() if engine.key == PLANNER else []
        more = [*engine.checks(context.recipe), *prior, *_cost_of_stopping(context, finding)]
        return dataclasses.replace(finding, checks=(*finding.checks, *more))


def _cost_of_stopping(context: Context, finding: Finding) -> Iterator[Check]:
    """Say what the rule that ended trials costs where they are complete: in the sweep of the same study."""
    stopping, sweep = finding.data.get("stopping"), context.findings.get("scaling")
    rows = () if sweep is None or stopping is None else sweep.tables.get(STOPPING, ())
    row = next((one for one in rows if stopping is not None and one["rule"] == stopping["name"]), None)
    if row is not None:
        yield Check(name="cost of stopping", status="INFO", sentence=rule_sentence(row))


EXPERIMENTS.register(Search.key)(Search())
