"""The course of a search: what was asked for, what has ended, and what the planner makes of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, final

import numpy as np

from lrscale.store import Trial, TrialSpec
from lrscale.study.planner import Belief, Choice, Outlook, Planner, Space
from lrscale.study.search.ladder import Ladder
from lrscale.study.search.setup import Setup

FEWEST = 5
"""Trials with a loss below which nothing is named: two runs fit any basin."""

UNSEEN = 2
"""Steps of the ladder from its end within which the best LR is not located where nothing beyond it was trained."""
NEAR = 0.25
"""Steps of the ladder within which a rung is no other setting than one that was trained."""

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
    sd: float = 0.0
    """Standard deviation of an estimated loss, where the trial did not come to its horizon; 0 where it was measured,
    infinity where nothing is known of it."""

    @property
    def setting(self) -> Setting:
        """LR and batch size."""
        return (self.lr, self.batch_size)


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
    closed: frozenset[Setting] = frozenset()
    """Settings of which an estimate is all that there will be: they are not asked for."""
    also: tuple[Setting, ...] = ()
    """Settings off the ladder that were trained. Rungs next to them are no settings of their own."""

    @property
    def settings(self) -> list[Setting]:
        """LR and batch size of each setting, the LRs of a batch size side by side."""
        every = [(lr, size) for size in self.batch_sizes for lr in self._lrs(size)]
        return [one for one in every if one not in self.without]

    def beside(self, setting: Setting, steps: int) -> list[Setting]:
        """Return the settings some steps of the ladder below and above one in LR, as far as there are any."""
        lr, size = setting
        if lr in self.ladder.lrs:
            there = [(other, size) for other in self.ladder.beside(lr, steps)]
            return [one for one in there if one not in self.without | self.closed]
        found = []
        for side in (-1, 1):
            beyond = [other for other, batch in self.settings if batch == size and (other > lr) == (side > 0)]
            far = [other for other in beyond if abs(math.log(other / lr)) > math.log(self.ladder.step) / 2]
            aim = math.log(lr) + side * steps * math.log(self.ladder.step)
            if far:
                found.append((far[int(np.argmin(np.abs(np.log(far) - aim)))], size))
        return found

    def _lrs(self, size: int) -> list[float]:
        trained = {lr for lr, batch in self.also if batch == size}
        if not trained:
            return list(self.ladder.lrs)
        near = self.ladder.step**NEAR
        rungs = [lr for lr in self.ladder.lrs if all(not lr / near < other < lr * near for other in trained)]
        return sorted({*rungs, *trained})

    def planner(self, runs: Sequence[Run]) -> Planner:
        """Return a planner that has been told some runs."""
        box = (self.ladder.box, (float(self.batch_sizes[0]), float(self.batch_sizes[-1])))
        space = Space(np.array(self.settings, dtype=np.float64), box)
        planner = Planner(space, seed=self.seed, belief=self.belief, replicates=True)
        for run in runs:
            planner.tell(run.lr, run.batch_size, run.loss, sd=run.sd, again=run.setting not in self.closed)
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
    """What the planner is told of them (`without_shifts`), and of those that did not come to their horizons."""
    trials: tuple[Trial, ...]
    """All that ended, in that order."""
    failed: tuple[Trial, ...]
    """Those among them that say nothing about their setting."""
    seeds: int
    """Seeds used so far: the next one is fresh."""
    ended: Ended
    stopped: tuple[Trial, ...] = ()
    """Those that a stopper has ended: nothing is known of their loss at the horizon."""
    stopper: str | None = None
    """Name of the rule by which trials may end early, where there is one."""
    extends: bool = True
    """Whether LRs beyond the first ones are tried where the best one lies at their end."""
    losses: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Losses at the validations of each trial, by trial id and number, where a stopper looks at them."""

    @property
    def finite(self) -> list[Run]:
        """The runs with a loss at the horizon."""
        return [run for run in self.runs if run.loss is not None and run.sd == 0]

    @property
    def advice(self) -> Advice:
        """What the planner names."""
        return advise(self.question, self.runs, 0)

    @property
    def has_name(self) -> bool:
        """Whether its trials name a setting: enough of them, whose losses differ, and no LR at an end that may move."""
        if len(self.finite) < FEWEST or not self.question.settings:
            return False
        choice = self.advice.choice
        return choice is not None and (self.question.ladder.bound or self.end(choice) is None)

    @property
    def spread(self) -> float:
        """What the losses of the trials differ by."""
        losses = [run.loss for run in self.runs if run.loss is not None]
        return max(losses, default=0.0) - min(losses, default=0.0)

    def end(self, choice: Choice) -> Literal["lowest", "highest"] | None:
        """Return the end of the LRs at which a choice lies, beyond which the best one may be; None inside.

        Between the rungs, where other engines ask, an LR also counts as at an end when it is less than `UNSEEN` steps
        away from it and no run of its batch size lies beyond.
        """
        ladder, lr = self.question.ladder, choice.lr
        low = lr * lr < ladder.lrs[0] * ladder.lrs[-1]
        if ladder.is_end(lr):
            return "lowest" if low else "highest"
        away = lr / ladder.lrs[0] if low else ladder.lrs[-1] / lr
        others = [run.lr for run in self.measured if run.batch_size == choice.batch_size]
        seen = any(other < lr if low else other > lr for other in others)
        if self.extends or seen or away > ladder.step**UNSEEN:
            return None
        return "lowest" if low else "highest"


def without_shifts(measured: Sequence[Run]) -> tuple[Run, ...]:
    """Return runs without what each seed but the first shifts all losses by.

    The shift of a seed is the mean difference of its losses from those of earlier seeds at the same settings. A seed
    with a single setting says nothing but its shift, and is left out. Estimated losses are shifted with the measured
    ones of their seed.

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
        own = [run for run in measured if run.seed == seed and run.sd == 0]
        losses = {run.setting: run.loss for run in own if run.loss is not None}
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
