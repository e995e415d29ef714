"""What the planner is told of all trials of a search, also of those that did not come to their horizons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from lrscale.stoppers.unfinished import Curve, estimate
from lrscale.store import Trial
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.search.course import Question, Run, without_shifts
from lrscale.study.search.setup import Setup
from lrscale.study.validations import losses_at


def informed(
    context: Context, setup: Setup, question: Question, measured: Sequence[Run], trials: Sequence[Trial]
) -> tuple[Question, tuple[Run, ...]]:
    """Return the question and the runs that the planner is told.

    A trial that a stopper has ended is told with what its loss would have come to, as the completed ones tell it; so is
    one whose processes were lost for good or whose time ran out, where it was validated before. That of a setting which
    cannot be trained to the end is not asked for again. Where too few trials tell it, a stopped one is told as asked
    for, with nothing known of its loss.

    Parameters
    ----------
    context : Context
    setup : Setup
    question : Question
        Without the settings that cannot be trained.
    measured : sequence of Run
        Trials that ended with a loss or diverged.
    trials : sequence of Trial
        All that have ended.
    """
    known = {(*run.setting, run.seed) for run in measured}
    seed_of = context.recipe.seed
    told: list[Run] = []
    without, closed = set(question.without), set[tuple[float, int]]()
    completed: list[Curve] | None = None
    for trial in trials:
        setting = (trial.spec.peak_lr, trial.spec.global_batch_size)
        seed = trial.spec.seed - seed_of
        stopped = trial.record.ended_by_stopper is not None
        if (*setting, seed) in known or not (stopped or _was_cut_off(trial)):
            continue
        if stopped and setting in question.without:
            # It has failed since, when it was to train to its horizon, or a smaller batch size found no memory.
            continue
        if completed is None:
            completed = [_curve(context, setup, one) for one in trials if _is_completed(one, trials)]
        curve = _curve(context, setup, trial)
        found = estimate(curve, completed)
        if found is not None:
            told.append(Run(lr=setting[0], batch_size=setting[1], seed=seed, loss=found.loss, sd=found.sd))
        elif stopped:
            last = curve.losses[max(curve.losses)] if curve.losses else 0.0
            told.append(Run(lr=setting[0], batch_size=setting[1], seed=seed, loss=last, sd=math.inf))
        trained = setting in {run.setting for run in measured}
        if not trained and (found is None or not stopped):
            closed.add(setting)
        if found is not None and not stopped:
            without.discard(setting)
    if told:
        question = dataclasses.replace(question, without=frozenset(without), closed=frozenset(closed))
    every = [*measured, *told]
    return question, without_shifts(every) if len(question.settings) > 1 else tuple(every)


def _was_cut_off(trial: Trial) -> bool:
    """Whether a trial ended before its horizon for a reason that says nothing of its setting's loss."""
    return trial.record.status == "timed_out" or (trial.record.status == "crashed" and trial.record.runs_lost > 0)


def _is_completed(trial: Trial, trials: Sequence[Trial]) -> bool:
    return trial.record.final_loss is not None and not counts_as_diverged(trial, trials)


def _curve(context: Context, setup: Setup, trial: Trial) -> Curve:
    return Curve(
        lr=trial.spec.peak_lr,
        batch_size=trial.spec.global_batch_size,
        losses=losses_at(context.view, trial, setup.validations),
        final=trial.record.final_loss,
    )
