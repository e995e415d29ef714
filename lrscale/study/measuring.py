"""Short trials that tell how long the others will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.cost.timed_trial import timed
from lrscale.study.experiments import AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.specs import SAFE_LR, make_spec
from lrscale.units import Duration, time_text

STEPS = 23
"""Three that take longer, and twenty whose mean lies within a few per cent of that of many."""
SECONDS = 3.0
"""Where those take less, a second trial trains about this long: a moment of a machine is not its mean."""


@final
class Measuring(AbstractExperiment):
    """A short trial at the smallest and one at the largest batch that the experiments train.

    Where they take a moment only, a longer one follows each. They run as other trials do, with a validation at the end:
    on the same devices, split in the same way, with the same instruments. Between the two batches a step takes what
    lies on the line through them.

    Parameters
    ----------
    experiments : sequence of AbstractExperiment
        Those whose trials are to be priced.
    """

    key: ClassVar[str] = "measure"
    title: ClassVar[str] = "Time of a trial"
    question: ClassVar[str] = "How long do start, step and validation of a trial take?"

    def __init__(self, experiments: Sequence[AbstractExperiment]) -> None:
        self._experiments = experiments

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return True

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        usual = [spec for experiment in self._experiments for spec in experiment.typical(context)]
        # Layouts that are pinned are those of few short trials, which are there to be timed themselves.
        sizes = {spec.global_batch_size for spec in usual if spec.layout is None} or {
            spec.global_batch_size for spec in usual
        }
        longest = max((spec.horizon for spec in usual if spec.layout is None), default=0)
        wanted = []
        for size in sorted({min(sizes), max(sizes)}):
            wanted.append(_spec(context, size, STEPS))
            trial = context.view.get(wanted[-1])
            first = None if trial is None else timed(trial)
            if first is not None and first.steps * first.step < SECONDS:
                steps = min(longest, math.ceil(SECONDS / first.step))
                wanted += [_spec(context, size, steps)] if steps > STEPS else []
        return wanted

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return self.plan(context)

    @override
    def analyse(self, context: Context) -> Finding:
        trials = context.finished(self.plan(context))
        took = [timing for timing in map(timed, trials) if timing is not None]
        told = "; ".join(
            f"a step of {one.layout.global_batch_size} examples {time_text(one.step)}, the rest of the trial "
            f"{time_text(one.start)}"
            for one in took
        )
        return Finding(
            key=self.key,
            title=self.title,
            status="ok" if took else "cannot_tell",
            sentence=f"As measured: {told}." if took else "No trial told its time.",
            trial_ids=tuple(trial.trial_id for trial in trials),
        )


def _spec(context: Context, size: int, steps: int) -> TrialSpec:
    return make_spec(
        context.recipe,
        peak_lr=SAFE_LR,
        batch_size=size,
        horizon=Duration(steps, "steps"),
        schedule="constant",
        settings={},
        seed=0,
        validations=1,
    )
