"""The confirmation of a search: the named setting and its neighbours in LR, with seeds that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import ndtri, stdtrit

from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.planner import Choice
from lrscale.study.search.course import Advice, Course, Run, Setting, advise, outlook

MOST_STEPS = 2
"""Steps of the ladder to a neighbour at most: a factor of 2. The ends of a wide interval would test nothing nearby."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Fresh trials of the setting that a search names and of its neighbours in LR, paired by seed."""

    course: Course
    choice: Choice
    """What the search named and expected before them."""
    settings: tuple[Setting, ...]
    """LR and batch size: the named one first, its neighbours, and what the fresh seeds put in its place."""
    seeds: tuple[int, ...]
    specs: Mapping[tuple[Setting, int], TrialSpec]
    """Setting and seed -> spec."""
    trials: Mapping[tuple[Setting, int], Trial]
    """Those that have ended."""

    @property
    def named(self) -> Setting:
        """The setting that the search named."""
        return self.settings[0]

    @property
    def is_complete(self) -> bool:
        """Whether all have ended."""
        return len(self.trials) == len(self.specs)

    def loss(self, setting: Setting, seed: int) -> float | None:
        """Return the loss of a fresh trial; infinite where it diverged, None where it says nothing."""
        trial = self.trials.get((setting, seed))
        if trial is None:
            return None
        if counts_as_diverged(trial, [*self.course.trials, *self.trials.values()]):
            return math.inf
        return trial.record.final_loss

    def losses(self, setting: Setting) -> list[float]:
        """Return the fresh losses of a setting, infinite ones included."""
        return [loss for seed in self.seeds if (loss := self.loss(setting, seed)) is not None]

    def mean(self, setting: Setting) -> float | None:
        """Return the mean of the fresh losses of a setting."""
        losses = self.losses(setting)
        return float(np.mean(losses)) if losses else None

    @property
    def spread(self) -> tuple[float, int] | None:
        """Standard deviation of a run of the named setting over all its seeds, and its degrees of freedom."""
        same = [run for run in self.course.measured if run.setting == self.named]
        seen = [run.loss for run in same if run.loss is not None]
        seen += [loss for loss in self.losses(self.named) if math.isfinite(loss)]
        return (float(np.std(seen, ddof=1)), len(seen) - 1) if len(seen) > 1 else None

    def agrees(self) -> bool | None:
        """Whether the fresh mean lies where the prediction and the spread between seeds let it; None while unknown.

        The search has seen other seeds. What those share is in every loss that it was told, and no part of its
        interval; the spread over the seeds of the named setting adds it (Student's t).
        """
        fresh = [loss for loss in self.losses(self.named) if math.isfinite(loss)]
        spread = self.spread
        if not fresh or spread is None:
            return None
        sd, degrees = spread
        expected = (self.choice.loss_hi - self.choice.loss_lo) / 2 / ndtri(0.975)
        error = math.sqrt(expected**2 + sd**2 * (1 + 1 / len(fresh)))
        return bool(abs(np.mean(fresh) - self.choice.loss) <= stdtrit(degrees, 0.975) * error)

    def runs(self) -> tuple[Run, ...]:
        """Return what the planner is told of them: their losses without what each seed shifts all of them by.

        The search's own trials have other seeds, and a lucky seed must not look like a better setting. The shift of a
        seed is its mean difference from what the search expected of the same settings; what is left ranks them.
        """
        before = outlook(self.course.question, self.course.runs)
        assert before is not None
        places = self.course.question.settings
        expected = {one: float(before.mean[places.index(one)]) for one in self.settings}
        told = []
        for seed in self.seeds:
            losses = {one: loss for one in self.settings if (loss := self.loss(one, seed)) is not None}
            away = [loss - expected[one] for one, loss in losses.items() if math.isfinite(loss)]
            shift = float(np.mean(away)) if away else 0.0
            told += [
                Run(lr=lr, batch_size=size, seed=seed, loss=loss - shift if math.isfinite(loss) else None)
                for (lr, size), loss in losses.items()
            ]
        return tuple(told)

    def with_challenger(self, context: Context) -> Confirmation:
        """Return it with the setting that the fresh seeds put in the named one's place, where they did not train it."""
        if not self.is_complete:
            return self
        lr, size = advise(self.course.question, self.course.runs + self.runs(), 0).named
        return (
            self if (lr, size) in self.settings else _confirmation(context, self.course, (*self.settings, (lr, size)))
        )


def confirmation(context: Context, course: Course) -> Confirmation | None:
    """Return the confirmation of a course that has ended, as far as its trials have; None where there is none to run.

    Neighbours lie at the ends of the interval of the best LR, at least one step of the ladder away and at most
    `MOST_STEPS`. Where the fresh seeds put another setting first, that is trained with them too, once.
    """
    if course.ended == "open" or not course.has_name or course.setup.fresh_seeds == 0:
        return None
    choice = course.advice.choice
    assert choice is not None
    ladder = course.question.ladder
    half = math.log(choice.lr_hi / choice.lr_lo) / 2 / math.log(ladder.step)
    steps = min(max(round(half), 1), MOST_STEPS)
    size = int(choice.batch_size)
    named = (choice.lr, size)
    settings = (named, *course.question.beside(named, steps))
    return _confirmation(context, course, settings).with_challenger(context)


def _confirmation(context: Context, course: Course, settings: tuple[Setting, ...]) -> Confirmation:
    choice = course.advice.choice
    assert choice is not None
    seeds = tuple(range(course.seeds, course.seeds + course.setup.fresh_seeds))
    specs = {(one, seed): course.setup.spec(context, *one, seed) for seed in seeds for one in settings}
    trials = {key: trial for key, spec in specs.items() if (trial := context.ended(spec)) is not None}
    return Confirmation(course=course, choice=choice, settings=settings, seeds=seeds, specs=specs, trials=trials)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a search says in the end: its course, its confirmation, and the planner's word on all runs."""

    course: Course
    confirmed: Confirmation | None
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, context: Context, course: Course) -> Conclusion:
        """Gather the confirmation, where it is complete, and what follows from all runs."""
        confirmed = confirmation(context, course)
        if confirmed is not None and not confirmed.trials:
            confirmed = None
        runs = course.runs + (confirmed.runs() if confirmed is not None else ())
        return cls(course=course, confirmed=confirmed, runs=runs)

    @property
    def advice(self) -> Advice:
        """What the planner names."""
        return advise(self.course.question, self.runs, 0)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were asked for."""
        fresh = () if self.confirmed is None else tuple(self.confirmed.trials.values())
        return tuple({trial.trial_id: trial for trial in (*self.course.trials, *fresh)}.values())
