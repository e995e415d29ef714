"""lrscale's own planner as the engine of a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.engines.base import ENGINES, AbstractEngine
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.search.course import (
    FEWEST,
    Advice,
    Course,
    Ended,
    Question,
    Run,
    advise,
    outlook,
    without_shifts,
)
from lrscale.study.search.setup import Setup

FEWEST_TO_EXTEND = 3
"""Trials before the ladder grows; the first ones lie where they were put."""

METHOD = (
    "A planner asks for each trial. It draws some thousand basins over ln LR and ln batch from what is "
    "known of losses in general (asymmetric slices, a best LR that rises with the batch up to a knee, "
    "walls of divergence), weighs them by how well they fit the runs so far, with a Gaussian process for "
    "what no basin fits, and asks for the setting of the largest expected improvement. Noise is a "
    "hypothesis among them: where it decides, settings are trained again with the next seed, and the "
    "lowest expected loss of those trained is named instead of the lowest measured one. The search ends "
    "when naming its best is expected to cost less than the tolerance."
)


@final
class PlannerEngine(AbstractEngine):
    """The planner, replayed over the trials that have ended."""

    key: ClassVar[str] = "planner"
    title: ClassVar[str] = "lrscale's planner"

    @override
    def follow(self, context: Context) -> Course:
        return _follow(context)

    @override
    def method(self, recipe: Recipe) -> str:
        del recipe
        return METHOD


def _follow(context: Context) -> Course:
    """Return the course of a search as far as its trials have ended.

    The planner is told the trials in the order in which it asked for them, a round of them at a time; in which order
    and where they ran changes nothing. A setting that is asked for again takes the next seed, and so does the best of
    the others where no setting has it: only against another one does a seed tell anything. A setting whose trial failed
    for a reason of its own is passed over, with all batch sizes from that one on where memory was short.

    While trials are to run, others of the study with the search's first seed and settings inform the answer, though not
    what is asked for: another version of the planner may have asked for them, or the sweep.
    """
    setup = Setup.of(context.recipe)
    question = Question(
        ladder=setup.ladder(context),
        batch_sizes=setup.batch_sizes,
        belief=setup.belief(context),
        seed=context.recipe.seed,
    )
    wanted: dict[tuple[float, int, int], TrialSpec] = {}
    measured: list[Run] = []
    runs: tuple[Run, ...] = ()
    trials: list[Trial] = []
    failed: list[Trial] = []
    ended: Ended = "open"
    while True:
        if not question.settings:
            ended = "nothing left"
            break
        left = setup.trials - len(wanted)
        asks = min(setup.at_once, left)
        if len(runs) >= FEWEST_TO_EXTEND:
            longer = question.ladder.extended(advise(question, runs, asks).named[0])
            question = question if longer is None else dataclasses.replace(question, ladder=longer)
        advice = advise(question, runs, asks)
        sure = is_sure(setup, question, runs, advice)
        if sure or asks == 0:
            ended = "sure" if sure else "spent"
            break
        new = _round(question, runs, advice, wanted, left)
        wanted |= {key: setup.spec(context, *key) for key in new}
        found = {key: trial for key in new if (trial := context.ended(wanted[key])) is not None}
        trials += found.values()
        for (lr, size, seed), trial in found.items():
            diverged = counts_as_diverged(trial, trials)
            if diverged or trial.record.final_loss is not None:
                loss = None if diverged else trial.record.final_loss
                measured.append(Run(lr=lr, batch_size=size, seed=seed, loss=loss))
            else:
                failed.append(trial)
                question = _without(question, lr, size, trial, measured)
        if len(found) < len(new):
            question = _told_besides(context, setup, question, measured, trials)
        runs = without_shifts(measured) if len(question.settings) > 1 else tuple(measured)
        if len(found) < len(new):
            break
    return Course(
        setup=setup,
        question=question,
        wanted=tuple(wanted.values()),
        measured=tuple(measured),
        runs=runs,
        trials=tuple(trials),
        failed=tuple(failed),
        seeds=1 + max((seed for _, _, seed in wanted), default=-1),
        ended=ended,
    )


def _round(
    question: Question,
    runs: tuple[Run, ...],
    advice: Advice,
    wanted: Mapping[tuple[float, int, int], TrialSpec],
    left: int,
) -> list[tuple[float, int, int]]:
    """Return LR, batch size and seed of the next trials: those asked for, and what a new seed is compared at."""
    new: list[tuple[float, int, int]] = []
    for setting in advice.asks:
        seed = sum(key[:2] == setting for key in [*wanted, *new])
        new.append((*setting, seed))
        if seed == 0 or any(key[2] == seed and key[:2] != setting for key in [*wanted, *new]):
            continue
        rivals = {(run.lr, run.batch_size) for run in runs if run.loss is not None} - {setting}
        if rivals and len(new) + len(advice.asks) - advice.asks.index(setting) <= left:
            view, places = outlook(question, runs), question.settings
            assert view is not None
            mean = view.mean
            new.append((*min(rivals, key=lambda one: (mean[places.index(one)], one)), seed))
    return new


def _told_besides(
    context: Context, setup: Setup, question: Question, measured: list[Run], trials: list[Trial]
) -> Question:
    """Add the other trials of a study that a search could have asked for, and return the question that holds them."""
    there = {trial.trial_id for trial in trials}
    besides = []
    for trial in context.own_trials:
        spec, size = trial.spec, trial.spec.global_batch_size
        first = spec.seed == context.recipe.seed and size in setup.batch_sizes and trial.trial_id not in there
        if first and setup.spec(context, spec.peak_lr, size, 0) == spec:
            besides.append(trial)
    for trial in sorted(besides, key=lambda trial: (trial.spec.global_batch_size, trial.spec.peak_lr)):
        lr, size = trial.spec.peak_lr, trial.spec.global_batch_size
        question = dataclasses.replace(question, ladder=question.ladder.reaching(lr))
        diverged = counts_as_diverged(trial, [*trials, *besides])
        if (lr, size) in question.settings and (diverged or trial.record.final_loss is not None):
            measured.append(Run(lr=lr, batch_size=size, seed=0, loss=None if diverged else trial.record.final_loss))
            trials.append(trial)
    return question


def is_sure(setup: Setup, question: Question, runs: Sequence[Run], advice: Advice) -> bool:
    """Whether naming the best setting now is expected to cost less than the tolerance.

    Not where that exceeds all that the losses differ by: a constant in the loss makes it so, and it then says nothing.
    """
    choice = advice.choice
    losses = [run.loss for run in runs if run.loss is not None]
    if choice is None or len(losses) < FEWEST or setup.tolerance * abs(choice.loss) >= max(losses) - min(losses):
        return False
    if question.ladder.is_end(choice.lr) and not question.ladder.bound:
        return False
    return choice.regret < setup.tolerance * abs(choice.loss) and math.isfinite(choice.regret)


def _without(question: Question, lr: float, size: int, trial: Trial, runs: Sequence[Run]) -> Question:
    trained = {(run.lr, run.batch_size) for run in runs}
    dropped = {(lr, size)}
    if trial.record.status == "out_of_memory":
        dropped |= {(lr, other) for lr, other in question.settings if other >= size}
    return dataclasses.replace(question, without=question.without | (dropped - trained))


ENGINES.register(PlannerEngine.key)(PlannerEngine())
