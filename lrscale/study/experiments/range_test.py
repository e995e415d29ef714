"""Range test: ramp the LR, find the bracket, and let short runs at fixed LR decide within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws import FitStatus, RangeFinding
from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.range_test.answer import RangeAnswer, range_finding
from lrscale.study.range_test.confirming import FixedTrials, confirm_spec, confirm_steps
from lrscale.study.range_test.ramps import (
    Ramps,
    ramp_specs,
    range_test_batch,
    range_test_batches,
    read_ramps,
    settings_of,
)
from lrscale.study.specs import ANY_LR

TYPICAL_RUNS = 14
"""Runs that confirm an LR at one batch size, read off `digits` alone (13 and 15); for estimates of cost."""
FEW_RUNS = 8
"""Runs at fixed LR that a small budget leaves to a batch size: the suggestions of the rules, and what lies between."""


@final
class RangeTest(AbstractExperiment):
    """Ramps the LR over seeds and batch sizes, reads a bracket from the curves, and confirms an LR at each batch size.

    A ramp brackets and does not decide: where its loss falls fastest depends on its length. Short trials at fixed LR
    around what the rules suggest decide, so that no suggestion goes out untested.
    """

    key: ClassVar[str] = "range_test"
    title: ClassVar[str] = "LR range test"
    question: ClassVar[str] = "Between which learning rates does the loss fall, which is best, and where is the edge?"
    importance: ClassVar[int] = 10

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.range_test is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        batches = range_test_batches(context.recipe)
        wanted = [spec for batch in batches for spec in ramp_specs(context, batch)]
        for batch in batches:
            found = self._found(context, read_ramps(context, batch))
            if found is not None:
                wanted += FixedTrials(context, batch, found).plan()
        return wanted

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        confirm = settings_of(context.recipe).confirm
        return _with_runs(context, 0 if confirm is None else confirm.max_runs)

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        confirm = settings_of(context.recipe).confirm
        return _with_runs(context, 0 if confirm is None else min(confirm.max_runs, TYPICAL_RUNS))

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = settings_of(recipe)
        found: list[dict[str, Any]] = []
        one: dict[str, Any] = {}
        if settings.batch_sizes is not None and len(settings.batch_sizes) > 1:
            one = {"batch_sizes": [range_test_batch(recipe)]}
            found.append(one)
        if settings.confirm is not None and settings.confirm.max_runs > FEW_RUNS:
            few = {**settings.confirm.model_dump(mode="json"), "max_runs": FEW_RUNS}
            found.append({**one, "confirm": few})
        # A single ramp still brackets the LR.
        if settings.seeds > 1 or settings.confirm is not None:
            found.append({**one, "seeds": 1, "confirm": False})
        return found

    @override
    def survives_crashes(self, context: Context) -> bool:
        # Modules raise on values that are no longer numbers. While no trial has ended otherwise it may as well be the
        # module that is broken, and then the study must end with its message.
        return any(trial.record.status != "crashed" for trial in context.finished(self.plan(context)))

    @override
    def analyse(self, context: Context) -> Finding:
        settings = settings_of(context.recipe)
        batches = range_test_batches(context.recipe)
        answers = [self._answer(context, batch) for batch in batches]
        steps = None if settings.confirm is None else confirm_steps(context, batches[0])
        return range_finding(self.key, self.title, answers, settings, steps=steps)

    def _answer(self, context: Context, batch: int) -> RangeAnswer:
        ramps = read_ramps(context, batch)
        found = self._found(context, ramps)
        trials = [trial.trial_id for trial in ramps.trials]
        confirmation = None
        if found is not None:
            fixed = FixedTrials(context, batch, found)
            confirmation = fixed.confirmation()
            trials += [trial.trial_id for trial in fixed.trials()]
        return RangeAnswer(ramps=ramps, found=ramps.finding(), confirmation=confirmation, trial_ids=tuple(trials))

    def _found(self, context: Context, ramps: Ramps) -> RangeFinding | None:
        """Return what there is to confirm: a bracket of ramps that have all ended; None without one."""
        settings = settings_of(context.recipe)
        specs = ramp_specs(context, ramps.batch_size)
        if settings.confirm is None or any(context.ended(spec) is None for spec in specs):
            return None
        found = ramps.finding()
        return found if found is not None and found.status is FitStatus.OK else None


def _with_runs(context: Context, runs: int) -> list[TrialSpec]:
    wanted = []
    for batch in range_test_batches(context.recipe):
        wanted += ramp_specs(context, batch)
        wanted += [confirm_spec(context, batch, ANY_LR, seed) for seed in range(runs)]
    return wanted


EXPERIMENTS.register(RangeTest.key)(RangeTest())
