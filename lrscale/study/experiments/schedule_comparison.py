"""Schedule comparison: equal examples, each schedule at its own tuned peak LR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import FEWEST_SEEDS
from lrscale.study.finding import Finding
from lrscale.study.schedules.answer import answer
from lrscale.study.schedules.cells import entrants, settings_of
from lrscale.study.specs import ANY_LR


@final
class ScheduleComparison(AbstractExperiment):
    """Tunes the peak LR of each schedule under each optimizer, then compares the fitted minima, ties admitted.

    At one common peak LR a comparison of schedules would be a comparison of the areas under them.
    """

    key: ClassVar[str] = "schedules"
    title: ClassVar[str] = "Schedules"
    question: ClassVar[str] = "Which schedule ends lowest at equal examples, each at its own best peak LR?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test", "scaling"})
    importance: ClassVar[int] = 70

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.schedules is not None

    @override
    def packages(self, recipe: Recipe) -> Mapping[str, str]:
        averaging = any(optimizer.is_schedule_free for optimizer in settings_of(recipe).optimizers)
        return {"schedulefree": "pip install 'lrscale[schedule-free]'"} if averaging else {}

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        return [spec for one in entrants(context).values() for spec in one.plan(context)]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [spec for one in entrants(context).values() for spec in one.cell.at_most(context, ANY_LR)]

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        # The sweep has trained under one of the schedules already, where both are at the same batch and horizon.
        return [
            spec
            for one in entrants(context).values()
            if not one.is_swept(context)
            for spec in one.cell.typical(context, ANY_LR)
        ]

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        return [{"seeds": FEWEST_SEEDS}] if settings_of(recipe).seeds > FEWEST_SEEDS else []

    @override
    def analyse(self, context: Context) -> Finding:
        return answer(self.key, self.title, context)


EXPERIMENTS.register(ScheduleComparison.key)(ScheduleComparison())
