"""The course of a search: the planner replayed over the trials that have ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import numpy as np

from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.planner import Belief, Choice, Outlook, Planner, Space
from lrscale.study.search.ladder import Ladder
from lrscale.study.search.setup import Setup

FEWEST = 5
"""Trials with a loss below which nothing is named: two runs fit any basin."""
FEWEST_TO_EXTEND = 3
"""Trials before the ladder grows; the first ones lie where they were put."""

Setting = tuple[float, int]
"""LR and batch size."""
Ended = Literal["open", "sure", "spent", "nothing left"]
"""Why a search asks for no more trials; of an open one, trials are still to run."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the planner is told of a trial."""

    lr: float
    batch_size: int
    seed: int
    loss: float | None
    """None where it diverged."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the planner may choose from, and what it believes."""

    ladder: Ladder
    batch_sizes: tuple[int, ...]
    belief: Belief
    seed: int
    without: frozenset[Setting] = frozenset()
    """Settings that cannot be trained."""

    @property
    def settings(self) -> list[Setting]:
        """LR and batch size of each setting, the LRs of a batch size side by side."""
        every = [(lr, size) for size in self.batch_sizes for lr in self.ladder.lrs]
        return [one for one in every if one not in self.without]

    def planner(self, runs: Sequence[Run]) -> Planner:
        """Return a planner that has been told some runs."""
        box = (self.ladder.box, (float(self.batch_sizes[0]), float(self.batch_sizes[-1])))
        space = Space(np.array(self.settings, dtype=np.float64), box)
        planner = Planner(space, seed=self.seed, belief=self.belief, replicates=True)
        for run in runs:
            planner.tell(run.lr, run.batch_size, run.loss)
        return planner


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the planner says after some runs."""

    named: Setting
    choice: Choice | None
    asks: tuple[Setting, ...]
    """LR and batch size of the trials to run next, side by side."""


@lru_cache(maxsize=256)
def advise(question: Question, runs: tuple[Run, ...], asks: int) -> Advice:
    """Return what to name after some runs, and what to train next.

    It follows from its arguments alone, so that a study that was killed goes on with the same trials.
    """
    planner = question.planner(runs)
    lr, size = planner.recommend()
    choice = planner.choice()
    return Advice(
        named=(lr, int(size)),
        choice=choice,
        asks=tuple((lr, int(size)) for lr, size in (planner.ask() for _ in range(asks))),
    )


@lru_cache(maxsize=8)
def outlook(question: Question, runs: tuple[Run, ...]) -> Outlook | None:
    """Return what is expected of every setting of a question."""
    return question.planner(runs).outlook()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a search has come to."""

    setup: Setup
    question: Question
    """With the ladder as it has grown."""
    wanted: tuple[TrialSpec, ...]
    """In the order in which they were asked for."""
    measured: tuple[Run, ...]
    """Those that ended with a loss or diverged, in that order."""
    runs: tuple[Run, ...]
    """What the planner is told of them (`without_shifts`)."""
    trials: tuple[Trial, ...]
    """All that ended, in that order."""
    failed: tuple[Trial, ...]
    """Those among them that say nothing about their setting."""
    seeds: int
    """Seeds used so far: the next one is fresh."""
    ended: Ended

    @property
    def finite(self) -> list[Run]:
        """The runs that have a loss."""
        return [run for run in self.runs if run.loss is not None]

    @property
    def advice(self) -> Advice:
        """What the planner names."""
        return advise(self.question, self.runs, 0)

    @property
    def has_name(self) -> bool:
        """Whether its trials name a setting: enough of them, whose losses differ, and no LR at an end that may move."""
        if len(self.finite) < FEWEST or not self.question.settings:
            return False
        choice, ladder = self.advice.choice, self.question.ladder
        return choice is not None and (ladder.bound or not ladder.is_end(choice.lr))


def follow(context: Context) -> Course:
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
        found = {key: trial for key in new if (trial := context.view.get(wanted[key])) is not None}
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


def without_shifts(measured: Sequence[Run]) -> tuple[Run, ...]:
    """Return runs without what each seed but the first shifts all losses by.

    The shift of a seed is the mean difference of its losses from those of earlier seeds at the same settings. A seed
    with a single setting says nothing but its shift, and is left out.

    Examples
    --------
    >>> def run(lr, seed, loss):
    ...     return Run(lr=lr, batch_size=16, seed=seed, loss=loss)
    >>> measured = [run(1.0, 0, 3.0), run(2.0, 0, 4.0), run(1.0, 1, 5.0), run(2.0, 1, 5.5), run(1.0, 2, 9.0)]
    >>> [one.loss for one in without_shifts(measured)]
    [3.0, 4.0, 3.25, 3.75]
    """
    known: dict[Setting, list[float]] = {}
    shifts: dict[int, float] = {}
    for seed in sorted({run.seed for run in measured}):
        losses = {(run.lr, run.batch_size): run.loss for run in measured if run.seed == seed and run.loss is not None}
        away = [loss - float(np.mean(known[one])) for one, loss in losses.items() if one in known]
        if seed > 0 and len(away) < 2:
            continue
        shifts[seed] = float(np.mean(away)) if seed > 0 else 0.0
        for one, loss in losses.items():
            known.setdefault(one, []).append(loss - shifts[seed])
    return tuple(
        dataclasses.replace(run, loss=None if run.loss is None else run.loss - shifts.get(run.seed, 0.0))
        for run in measured
        if run.seed in shifts or run.loss is None
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
    """Whether naming the best setting now is expected to cost less than the tolerance."""
    choice = advice.choice
    if choice is None or sum(run.loss is not None for run in runs) < FEWEST:
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
