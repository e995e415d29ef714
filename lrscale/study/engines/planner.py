"""lrscale's own planner as the engine of a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.recipe.engines import PlannerEngine as PlannerSettings
from lrscale.stoppers import Earlier
from lrscale.store import Trial, TrialSpec
from lrscale.study.bounded import bounded
from lrscale.study.engines.base import ENGINES, AbstractEngine
from lrscale.study.engines.pruning import pruner_method, pruner_name, usual_parts
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.search.course import (
    FEWEST,
    Advice,
    Course,
    Ended,
    Question,
    Run,
    Setting,
    advise,
    outlook,
)
from lrscale.study.search.informed import informed
from lrscale.study.search.setup import Setup
from lrscale.study.validations import losses_at

FEWEST_TO_EXTEND = 3
"""Trials before the ladder grows; the first ones lie where they were put."""

METHOD = (
    "A planner asks for each trial. It draws some thousand basins over ln LR and ln batch from what is "
    "known of losses in general (asymmetric slices, a best LR that rises with the batch up to a knee, "
    "walls of divergence), weighs them by how well they fit the runs so far, with a Gaussian process for "
    "what no basin fits, and asks for the setting of the largest expected improvement. Noise is a "
    "hypothesis among them: where it decides, settings are trained again with the next seed. Named is the "
    "trained setting of the lowest loss, measured and expected under noise, each weighed by how likely "
    "noise does not and does matter. The search ends when naming its best is expected to cost less than "
    "the tolerance."
)

ESTIMATED = (
    "What its loss would have come to is predicted from how far the losses of completed trials fell from the same "
    "share of the horizon on, and told to the planner with its standard deviation; from fewer than three of them "
    "nothing is predicted. Where its setting is asked for again, the trial runs once more, to its horizon."
)

Key = tuple[float, int, int]
"""LR, batch size and seed."""


@final
class PlannerEngine(AbstractEngine):
    """The planner, replayed over the trials that have ended."""

    key: ClassVar[str] = "planner"
    title: ClassVar[str] = "lrscale's planner"

    @override
    def follow(self, context: Context) -> Course:
        return _follow(context)

    @override
    def sampled(self, context: Context, course: Course, count: int) -> list[TrialSpec]:
        whole = course.setup.sampled(context, count)
        return usual_parts(whole, settings_of(context.recipe).pruner, course.setup, len(course.wanted))

    @override
    def method(self, recipe: Recipe) -> str:
        pruned = pruner_method(settings_of(recipe).pruner, "the rule")
        return METHOD if pruned is None else f"{METHOD}\n\n{pruned} {ESTIMATED}"


def settings_of(recipe: Recipe) -> PlannerSettings:
    """Return the settings of the engine in a recipe that asks for a search by it."""
    search = recipe.experiments.search
    assert search is not None
    assert isinstance(search.engine, PlannerSettings)
    return search.engine


def _follow(context: Context) -> Course:
    """Return the course of a search as far as its trials have ended.

    The planner is told the trials in the order in which it asked for them, a round of them at a time; in which order
    and where they ran changes nothing. A setting that is asked for again takes the next seed, and so does the best of
    the others where no setting has it: only against another one does a seed tell anything. A setting whose trial failed
    for a reason of its own is passed over, with all batch sizes from that one on where memory was short.

    With a pruner a trial has bounds from those that ended in earlier rounds, as long as enough trials are left to name
    a setting without it. Where its setting is asked for again after they have ended it, the same seed trains it to its
    horizon. So do all later seeds: they are there to show the noise of leading settings.

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
    told, runs = question, tuple[Run, ...]()
    rule = _Rule(context, setup)
    asked: list[Key] = []
    wanted: list[TrialSpec] = []
    measured: list[Run] = []
    trials: list[Trial] = []
    failed: list[Trial] = []
    stopped: dict[Setting, int] = {}
    ended: Ended = "open"
    while True:
        if told.closed.issuperset(told.settings):
            ended = "nothing left"
            break
        left = setup.trials - len(wanted)
        asks = min(setup.at_once, left)
        if sum(run.sd == 0 for run in runs) >= FEWEST_TO_EXTEND:
            longer = question.ladder.extended(advise(told, runs, asks).named[0])
            if longer is not None:
                question, told = (dataclasses.replace(one, ladder=longer) for one in (question, told))
        advice = advise(told, runs, asks)
        sure = is_sure(setup, told, runs, advice)
        if sure or asks == 0:
            ended = "sure" if sure else "spent"
            break
        new = _round(told, runs, advice, asked, stopped, left)
        whole = sum(run.loss is not None and run.sd == 0 for run in runs)
        specs = [
            rule.spec(key, number, whole=key in asked or key[2] > 0 or whole + setup.trials - number <= FEWEST)
            for number, key in enumerate(new, start=len(wanted))
        ]
        asked += new
        wanted += specs
        found = [(key, trial) for key, spec in zip(new, specs, strict=True) if (trial := context.ended(spec))]
        trials += [trial for _, trial in found]
        for (lr, size, seed), trial in found:
            diverged = counts_as_diverged(trial, trials)
            stopped.pop((lr, size), None)
            if diverged or trial.record.final_loss is not None:
                loss = None if diverged else trial.record.final_loss
                measured.append(Run(lr=lr, batch_size=size, seed=seed, loss=loss))
            elif trial.record.ended_by_stopper is not None:
                stopped[lr, size] = seed
            else:
                failed.append(trial)
                question = _without(question, lr, size, trial, measured)
        if len(found) < len(new):
            question = _told_besides(context, setup, question, measured, trials)
        told, runs = informed(context, setup, question, measured, trials)
        if len(found) < len(new):
            break
        rule.learn(trial for _, trial in found)
    return Course(
        setup=setup,
        question=told,
        wanted=tuple(wanted),
        measured=tuple(measured),
        runs=runs,
        trials=tuple(trials),
        failed=tuple(failed),
        stopped=tuple(trial for trial in trials if trial.record.ended_by_stopper is not None),
        seeds=1 + max((seed for _, _, seed in asked), default=-1),
        ended=ended,
        stopper=rule.name,
        losses=rule.losses(trials),
    )


@final
class _Rule:
    """The rule by which trials end early, and what it knows of those before."""

    def __init__(self, context: Context, setup: Setup) -> None:
        self._context, self._setup = context, setup
        pruner = settings_of(context.recipe).pruner
        self._stopper = pruner.stopper()
        self.name = pruner_name(pruner)
        self._earlier: list[Earlier] = []
        self._number: dict[str, int] = {}

    def spec(self, key: Key, number: int, *, whole: bool) -> TrialSpec:
        """Return the spec of a trial, with its bounds unless it is to train to its horizon."""
        lr, size, seed = key
        spec = self._setup.spec(self._context, lr, size, seed)
        if self._stopper is not None and self.name is not None and not whole:
            spec = bounded(
                spec,
                self._stopper,
                self.name,
                number=number,
                earlier=self._earlier,
                validations=self._setup.validations,
            )
        self._number[spec.trial_id] = number
        return spec

    def learn(self, trials: Iterable[Trial]) -> None:
        """Take trials that have ended; later ones are held against them."""
        for trial in trials if self._stopper is not None else ():
            stopped = trial.record.ended_by_stopper is not None
            first = trial.spec.seed == self._context.recipe.seed
            if not first or not (stopped or trial.record.status in ("completed", "diverged")):
                continue
            lr, size = trial.spec.peak_lr, trial.spec.global_batch_size
            # A setting that was ended before has come to its horizon now.
            self._earlier = [one for one in self._earlier if (one.lr, one.batch_size) != (lr, size)]
            self._earlier.append(
                Earlier(
                    number=self._number[trial.trial_id],
                    losses=losses_at(self._context.view, trial, self._setup.validations),
                    completed=not stopped,
                    lr=lr,
                    batch_size=size,
                )
            )

    def losses(self, trials: Iterable[Trial]) -> dict[str, Mapping[int, float]]:
        """Return the losses of trials at their validations, by trial id and number, where the rule looks at them."""
        if self._stopper is None:
            return {}
        return {one.trial_id: losses_at(self._context.view, one, self._setup.validations) for one in trials}


def _round(
    question: Question,
    runs: tuple[Run, ...],
    advice: Advice,
    asked: Sequence[Key],
    stopped: Mapping[Setting, int],
    left: int,
) -> list[Key]:
    """Return LR, batch size and seed of the next trials: those asked for, and what a new seed is compared at.

    A setting whose last trial was stopped has that one's seed again. So has the best of them where a new seed would be
    left alone by the number of trials, and say nothing.
    """
    new: list[Key] = []
    for place, setting in enumerate(advice.asks):
        if setting in stopped and (*setting, stopped[setting]) not in new:
            new.append((*setting, stopped[setting]))
            continue
        seed = len({key for key in [*asked, *new] if key[:2] == setting})
        if seed == 0 or any(key[2] == seed and key[:2] != setting for key in [*asked, *new]):
            new.append((*setting, seed))
            continue
        rivals = {run.setting for run in runs if run.loss is not None and run.sd == 0} - {setting}
        ended = {one for one in stopped if one in question.settings and (*one, stopped[one]) not in new}
        if rivals and len(new) + 1 + len(advice.asks) - place <= left:
            new += [(*setting, seed), (*_best(question, runs, rivals), seed)]
        elif rivals and ended:
            again = _best(question, runs, ended)
            new.append((*again, stopped[again]))
        else:
            new.append((*setting, seed))
    return new


def _best(question: Question, runs: tuple[Run, ...], among: Collection[Setting]) -> Setting:
    """Return the setting of the lowest expected loss."""
    view, places = outlook(question, runs), question.settings
    assert view is not None
    mean = view.mean
    return min(among, key=lambda one: (mean[places.index(one)], one))


def _told_besides(
    context: Context, setup: Setup, question: Question, measured: list[Run], trials: list[Trial]
) -> Question:
    """Add the other trials of a study that a search could have asked for, and return the question that holds them."""
    there = {trial.trial_id for trial in trials}
    known = {run.setting for run in measured if run.seed == 0}
    besides = []
    for trial in context.own_trials:
        spec, size = trial.spec, trial.spec.global_batch_size
        first = spec.seed == context.recipe.seed and size in setup.batch_sizes and trial.trial_id not in there
        if first and setup.spec(context, spec.peak_lr, size, 0) == dataclasses.replace(spec, stopper={}):
            besides.append(trial)
    for trial in sorted(besides, key=lambda trial: (trial.spec.global_batch_size, trial.spec.peak_lr)):
        lr, size = trial.spec.peak_lr, trial.spec.global_batch_size
        question = dataclasses.replace(question, ladder=question.ladder.reaching(lr))
        diverged = counts_as_diverged(trial, [*trials, *besides])
        if (
            (lr, size) in question.settings
            and (lr, size) not in known
            and (diverged or trial.record.final_loss is not None)
        ):
            measured.append(Run(lr=lr, batch_size=size, seed=0, loss=None if diverged else trial.record.final_loss))
            trials.append(trial)
            known.add((lr, size))
    return question


def is_sure(setup: Setup, question: Question, runs: Sequence[Run], advice: Advice) -> bool:
    """Whether naming the best setting now is expected to cost less than the tolerance.

    Not where that exceeds all that the losses differ by: a constant in the loss makes it so, and it then says nothing.
    """
    choice = advice.choice
    losses = [run.loss for run in runs if run.loss is not None and run.sd == 0]
    if choice is None or len(losses) < FEWEST or setup.tolerance * abs(choice.loss) >= max(losses) - min(losses):
        return False
    if question.ladder.is_end(choice.lr) and not question.ladder.bound:
        return False
    return choice.regret < setup.tolerance * abs(choice.loss) and math.isfinite(choice.regret)


def _without(question: Question, lr: float, size: int, trial: Trial, runs: Sequence[Run]) -> Question:
    trained = {run.setting for run in runs}
    dropped = {(lr, size)}
    if trial.record.status == "out_of_memory":
        dropped |= {(lr, other) for lr, other in question.settings if other >= size}
    return dataclasses.replace(question, without=question.without | (dropped - trained))


ENGINES.register(PlannerEngine.key)(PlannerEngine())
