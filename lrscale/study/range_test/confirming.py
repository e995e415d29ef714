"""The short trials at fixed LR that confirm a range test at one batch size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from lrscale.laws import RangeFinding
from lrscale.laws.range_test.confirm import ConfirmSettings, confirm, next_runs
from lrscale.laws.range_test.confirmation import Confirmation, FixedRun
from lrscale.store import ScheduleSpec, Trial, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import usable
from lrscale.study.range_test.ramps import asked_spec, settings_of
from lrscale.study.specs import make_spec
from lrscale.units import Duration

HORIZON_SHARE = 0.25
"""Share of the sweep's horizon that a run lasts by default. The best LR falls with the horizon as a power between 0.32
(Bjorck et al. 2024, arXiv:2409.19913) and 0.5 (convex theory: Schaipp et al. 2025, arXiv:2501.18965), so that at a
quarter it is at most a factor of two off, which is one step of the search."""


def confirm_steps(context: Context, batch_size: int) -> int:
    """Return the steps of a run: the recipe's, else a ramp's, or a quarter of the sweep's horizon if that is more."""
    settings = settings_of(context.recipe)
    assert settings.confirm is not None
    if settings.confirm.steps is not None:
        return settings.confirm.steps
    scaling = context.recipe.experiments.scaling
    if scaling is None:
        return settings.steps
    horizon = scaling.horizon.steps(batch_size, dataset_size=context.training_examples)
    return max(settings.steps, round(HORIZON_SHARE * horizon))


def confirm_spec(context: Context, batch_size: int, lr: float, seed: int) -> TrialSpec:
    """Return the trial of one run at fixed LR."""
    settings = settings_of(context.recipe).confirm
    assert settings is not None
    steps = confirm_steps(context, batch_size)
    spec = make_spec(
        context.recipe,
        peak_lr=lr,
        batch_size=batch_size,
        horizon=Duration(steps, "steps"),
        schedule="constant",
        settings={},
        seed=seed,
    )
    # Fixed is fixed, also for a task whose other trials follow the module's own schedule.
    fixed = ScheduleSpec(name="constant", warmup_steps=round(settings.warmup_fraction * steps))
    return asked_spec(context, dataclasses.replace(spec, schedule=fixed), validate_every=0)


@final
@dataclass(frozen=True, slots=True)
class FixedTrials:
    """The confirmation of one batch size: which trials it wants, and what they say.

    Parameters
    ----------
    context : Context
        Its recipe asks for a confirmation.
    batch_size : int
        Global batch size.
    finding : RangeFinding
        What the ramps at that batch size said.
    """

    context: Context
    batch_size: int
    finding: RangeFinding

    def plan(self) -> list[TrialSpec]:
        """Return every trial wanted so far."""
        wanted: dict[tuple[float, int], TrialSpec] = {}
        while True:
            # A trial that crashed says nothing, but the search must go on: at its LR it counts as one that diverged.
            ended = [self.context.ended(spec) for spec in wanted.values()]
            start = _untrained(trial for trial in ended if trial is not None)
            runs = [
                _run(trial, lr, seed, start, diverged=False)
                for (lr, seed), trial in zip(wanted, ended, strict=True)
                if trial is not None
            ]
            new = next_runs(self.finding, runs, settings=self._limits())
            wanted |= {key: confirm_spec(self.context, self.batch_size, *key) for key in new}
            if not new or any(self.context.ended(wanted[key]) is None for key in new):
                return list(wanted.values())

    def trials(self) -> list[Trial]:
        """Return the finished trials."""
        return self.context.finished(self.plan())

    def confirmation(self) -> Confirmation:
        """Return what the finished trials say; those that crashed for a reason of their own are left out."""
        trials = sorted(self.trials(), key=lambda trial: (trial.spec.peak_lr, trial.spec.seed))
        kept, diverged = usable(trials)
        first, start = self.context.recipe.seed, _untrained(trials)
        beta2 = next((trial.record.facts.get("beta2") for trial in trials), None)
        return confirm(
            self.finding,
            [
                _run(trial, trial.spec.peak_lr, trial.spec.seed - first, start, diverged=bad)
                for trial, bad in zip(kept, diverged, strict=True)
            ],
            settings=self._limits(),
            steps=confirm_steps(self.context, self.batch_size),
            batch_size=self.batch_size,
            warmup_steps=max((trial.spec.schedule.warmup_steps for trial in trials), default=0),
            beta2=beta2,
        )

    def _limits(self) -> ConfirmSettings:
        settings = settings_of(self.context.recipe).confirm
        assert settings is not None
        target = self.context.recipe.target
        return ConfirmSettings(
            seeds=settings.seeds,
            most_runs=settings.max_runs,
            find_edge=settings.edge,
            tolerance=ConfirmSettings().tolerance if target is None else target.tolerance,
        )


def _untrained(trials: Iterable[Trial]) -> float | None:
    """Return the training loss before training: that of the first steps at the smallest LR, which moved it least."""
    known = [(trial.spec.peak_lr, trial.record.initial_loss) for trial in trials]
    starts = [(lr, loss) for lr, loss in known if loss is not None and math.isfinite(loss)]
    return min(starts)[1] if starts else None


def _run(trial: Trial, lr: float, seed: int, start: float | None, *, diverged: bool) -> FixedRun:
    end = trial.record.final_train_loss
    return FixedRun(
        lr=lr,
        seed=seed,
        loss=None if diverged else trial.record.final_loss,
        gain=start - end if start is not None and end is not None and math.isfinite(end) else None,
    )
