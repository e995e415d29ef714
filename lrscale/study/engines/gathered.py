"""The course of a search from the trials that are there, whoever has asked for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.search.course import Course, Ended, Question, Run, Setting, without_shifts
from lrscale.study.search.setup import Setup
from lrscale.study.validations import losses_at


def course_of(
    context: Context,
    setup: Setup,
    wanted: Mapping[tuple[float, int, int], TrialSpec],
    trials: list[Trial],
    ended: Ended,
    losses: Mapping[str, Mapping[int, float]],
    stopper: str | None,
) -> Course:
    """Return the course of a search that another than lrscale's planner plans.

    Parameters
    ----------
    context : Context
    setup : Setup
    wanted : mapping
        LR, batch size and seed -> spec, in the order in which they were asked for.
    trials : list of Trial
        Those that have ended.
    ended : str
        Why it asks for no more.
    losses : mapping
        Losses at the validations of each trial, by trial id and number.
    stopper : str or None
        Name of the rule by which trials may end early.
    """
    place_of = {spec.trial_id: key for key, spec in wanted.items()}
    measured, failed = [], []
    for trial in trials:
        lr, size, seed = place_of[trial.trial_id]
        diverged = counts_as_diverged(trial, trials)
        if diverged or trial.record.final_loss is not None:
            loss = None if diverged else trial.record.final_loss
            measured.append(Run(lr=lr, batch_size=size, seed=seed, loss=loss))
        elif trial.record.ended_by_stopper is None:
            failed.append(trial)
    trained: list[Setting] = sorted({run.setting for run in measured})
    question = Question(
        ladder=setup.ladder(context),
        batch_sizes=setup.batch_sizes,
        belief=setup.belief(context),
        seed=context.recipe.seed,
        also=tuple(trained),
    )
    return Course(
        setup=setup,
        question=question,
        wanted=tuple(wanted.values()),
        measured=tuple(measured),
        runs=without_shifts(measured) if len(question.settings) > 1 else tuple(measured),
        trials=tuple(trials),
        failed=tuple(failed),
        stopped=tuple(trial for trial in trials if trial.record.ended_by_stopper is not None),
        seeds=1 + max((seed for _, _, seed in wanted), default=-1),
        ended=ended,
        stopper=stopper,
        extends=False,
        losses=losses,
    )


def gathered(context: Context, setup: Setup, stopper: str | None) -> Course:
    """Return the course as the trials that are there tell it, in no order, without asking whoever plans."""
    wanted, trials = {}, []
    for trial in context.own_trials:
        spec, size = trial.spec, trial.spec.global_batch_size
        if spec.seed != context.recipe.seed or size not in setup.batch_sizes:
            continue
        if setup.spec(context, spec.peak_lr, size, 0) == dataclasses.replace(spec, stopper={}):
            wanted[spec.peak_lr, size, 0] = spec
            trials.append(trial)
    losses = {trial.trial_id: losses_at(context.view, trial, setup.validations) for trial in trials}
    return course_of(context, setup, wanted, trials, "spent", losses, stopper)
