"""Optuna as the engine of a search: its samplers ask, and its pruners end trials early."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.recipe.engines import OptunaEngine as OptunaSettings
from lrscale.stoppers import Earlier
from lrscale.store import Trial, TrialSpec
from lrscale.study.bounded import bounded
from lrscale.study.engines.base import ENGINES, AbstractEngine
from lrscale.study.engines.gathered import course_of, gathered
from lrscale.study.engines.optuna_game import Game, How, Told, is_installed, next_round
from lrscale.study.engines.pruning import pruner_method, pruner_name, usual_parts
from lrscale.study.experiments.base import Context
from lrscale.study.outcomes import counts_as_diverged
from lrscale.study.search.course import Course, Ended
from lrscale.study.search.setup import Setup
from lrscale.study.validations import losses_at

SAMPLER_NAMES: Mapping[str, str] = {
    "tpe": "a tree-structured Parzen estimator (TPE)",
    "gp": "a Gaussian process",
    "cmaes": "CMA-ES",
    "random": "random settings",
}


@final
class OptunaEngine(AbstractEngine):
    """A sampler and a pruner of Optuna, replayed over the trials that have ended."""

    key: ClassVar[str] = "optuna"
    title: ClassVar[str] = "Optuna"

    @override
    def follow(self, context: Context) -> Course:
        setup = Setup.of(context.recipe)
        if not is_installed("optuna"):
            there = gathered(context, setup, pruner_name(_settings(context.recipe).pruner))
            if len(there.trials) >= setup.trials:
                # What is there can be read where nothing more is asked for: a report needs no engine.
                return there
        return _followed(context, setup)

    @override
    def sampled(self, context: Context, course: Course, count: int) -> list[TrialSpec]:
        whole = course.setup.sampled(context, count)
        return usual_parts(whole, _settings(context.recipe).pruner, course.setup, len(course.wanted))

    @override
    def method(self, recipe: Recipe) -> str:
        settings = _settings(recipe)
        told = (
            f"Optuna asks for each trial: {SAMPLER_NAMES[settings.sampler]} over ln LR and the batch sizes in their "
            "order, told the loss at the horizon, and of a trial that diverged that it was worse than any other. It "
            "does not leave the range of LRs it was given, and says nothing of how sure it is: the named setting, its "
            "intervals and the expected regret are those of lrscale's surface through all trials that trained to "
            "their horizon."
        )
        pruned = pruner_method(settings.pruner, "Optuna's rule")
        return told if pruned is None else f"{told}\n\n{pruned}"


def _settings(recipe: Recipe) -> OptunaSettings:
    search = recipe.experiments.search
    assert search is not None
    assert isinstance(search.engine, OptunaSettings)
    return search.engine


def _game(recipe: Recipe, setup: Setup, learning_rates: tuple[float, float]) -> Game:
    settings = _settings(recipe)
    stopper = settings.pruner.stopper()
    return Game(
        sampler=settings.sampler,
        startup=settings.startup,
        pruner=None if stopper is None else settings.pruner.name,
        pruner_settings=() if stopper is None else tuple(sorted(dataclasses.asdict(stopper).items())),
        validations=setup.validations,
        learning_rates=learning_rates,
        batch_sizes=setup.batch_sizes,
        at_once=setup.at_once,
        trials=setup.trials,
        seed=recipe.seed,
    )


def _followed(context: Context, setup: Setup) -> Course:
    """Return the course of a search: Optuna's study is played again, a round at a time, as far as trials have ended.

    A setting that is asked for again takes the next seed. Where memory was short, that batch size and larger ones are
    not tried again: Optuna is told that they are as bad as can be.
    """
    ladder = setup.ladder(context)
    settings = _settings(context.recipe)
    stopper = settings.pruner.stopper()
    game = _game(context.recipe, setup, setup.learning_rates or (ladder.lrs[0], ladder.lrs[-1]))
    wanted: dict[tuple[float, int, int], TrialSpec] = {}
    trials: list[Trial] = []
    told: list[tuple[Told, ...]] = []
    earlier: list[Earlier] = []
    losses: dict[str, Mapping[int, float]] = {}
    tight = math.inf
    ended: Ended = "spent"
    while game.asked_after(tuple(told)):
        first = sum(map(len, told))
        new: list[tuple[float, int, int] | None] = []
        for number, (lr, size) in enumerate(next_round(game, tuple(told)), start=first):
            if size >= tight:
                new.append(None)
                continue
            key = (lr, size, sum(one[:2] == (lr, size) for one in wanted))
            spec = setup.spec(context, *key)
            if stopper is not None:
                spec = bounded(
                    spec,
                    stopper,
                    settings.pruner.name,
                    number=number,
                    earlier=earlier,
                    validations=setup.validations,
                )
            wanted[key] = spec
            new.append(key)
        found = [None if key is None else context.ended(wanted[key]) for key in new]
        trials += [trial for trial in found if trial is not None]
        if any(key is not None and trial is None for key, trial in zip(new, found, strict=True)):
            ended = "open"
            break
        some: list[Told] = []
        for number, trial in enumerate(found, start=first):
            if trial is None:
                some.append(Told(how="not tried"))
                continue
            at = losses_at(context.view, trial, setup.validations) if stopper is not None else {}
            losses[trial.trial_id] = at
            how = _how(trial, trials)
            if trial.record.status == "out_of_memory":
                tight = min(tight, trial.spec.global_batch_size)
            some.append(Told(how=how, loss=trial.record.final_loss, losses=tuple(at.items())))
            if how != "failed":
                earlier.append(
                    Earlier(
                        number=number,
                        losses=at,
                        completed=how != "stopped",
                        lr=trial.spec.peak_lr,
                        batch_size=trial.spec.global_batch_size,
                    )
                )
        told.append(tuple(some))
    if ended == "spent" and len(wanted) < setup.trials:
        ended = "nothing left"
    return course_of(context, setup, wanted, trials, ended, losses, pruner_name(_settings(context.recipe).pruner))


def _how(trial: Trial, others: list[Trial]) -> How:
    if counts_as_diverged(trial, others) or trial.record.status == "out_of_memory":
        return "diverged"
    if trial.record.ended_by_stopper is not None:
        return "stopped"
    return "failed" if trial.record.final_loss is None else "completed"


ENGINES.register(OptunaEngine.key)(OptunaEngine())
