"""Ray Tune as the engine of a search: its algorithms ask, and its schedulers decide which trials go on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.errors import StudyError
from lrscale.launch import AbstractLauncher, RayLauncher
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.ray.evolution import Evolution
from lrscale.launch.ray.evolving_trial import EvolvingTrial
from lrscale.launch.ray.tuned_search import TunedSearch
from lrscale.launch.ray.tuned_trial import TrialPlan
from lrscale.ray_tune import AbstractScheduler, Space
from lrscale.ray_tune.tuner import Search
from lrscale.recipe import Recipe
from lrscale.recipe.engines import RayEngine as RaySettings
from lrscale.store import ScheduleSpec, StudyFolder, TrialRecord, TrialSpec
from lrscale.study.driven import DRIVEN, AbstractDriver
from lrscale.study.engines.base import ENGINES, AbstractEngine, AbstractOwnAnswer
from lrscale.study.engines.evolved import Evolved
from lrscale.study.engines.gathered import gathered
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Check
from lrscale.study.layouts.memory_search import largest_that_fits
from lrscale.study.search.course import Course
from lrscale.study.search.setup import Setup
from lrscale.study.specs import riding_instruments, trial_layout
from lrscale.study.validations import first_validations


@final
class RayEngine(AbstractEngine):
    """A scheduler and an algorithm of Ray Tune."""

    key: ClassVar[str] = "ray"
    title: ClassVar[str] = "Ray Tune"

    @override
    def follow(self, context: Context) -> Course:
        rule = rule_of(context.recipe)
        course = gathered(context, Setup.of(context.recipe), rule)
        kept = context.facts.get(DRIVEN, {}).get(key_of(context.recipe))
        if kept is None:
            return dataclasses.replace(course, ended="open")
        place = {trial_id: number for number, trial_id in enumerate(kept["trials"])}
        trials = sorted(course.trials, key=lambda trial: place.get(trial.trial_id, len(place)))
        return dataclasses.replace(course, trials=tuple(trials))

    @override
    def driver(self, context: Context) -> AbstractDriver | None:
        if key_of(context.recipe) in context.facts.get(DRIVEN, {}):
            return None
        return RayDriver(context)

    @override
    def own_answer(self, context: Context) -> AbstractOwnAnswer | None:
        if not _settings(context.recipe).scheduler.scheduler().evolves:
            return None
        return Evolved(context, context.facts.get(DRIVEN, {}).get(key_of(context.recipe)), self.method(context.recipe))

    @override
    def method(self, recipe: Recipe) -> str:
        settings = _settings(recipe)
        scheduler, algorithm = settings.scheduler.scheduler(), settings.chosen.algorithm()
        told = (
            f"Ray Tune drives the search: {algorithm.title} over log10 of the LR and the batch sizes in their order, "
            f"under {scheduler.title}. A trial reports its loss at each validation; one that diverged counts as one "
            "that has learned nothing. The search does not leave the range of LRs it was given. The named setting, its "
            "intervals and the expected regret are those of lrscale's surface through all trials that trained to their "
            "horizon."
        )
        if scheduler.evolves:
            return (
                f"Ray Tune evolves a population by {scheduler.title}: members train segments of equal examples at a "
                "constant LR; at the end of each the worst take over weights and optimizer state of the best, and "
                "another LR. Each segment is a trial that begins from the state of the one before, with examples in an "
                "order of its own. The LRs that the best member has seen are a schedule. It was found on validation "
                "losses that also chose it, so that it is trained again, from a fresh start with fresh seeds."
            )
        if settings.scheduler.name == "none":
            return told
        told += (
            " A trial that the scheduler ends has no loss at equal examples and is never named. Which trials end, and "
            "so what is asked for next, depends on which was faster: another run of the same search asks otherwise."
        )
        if scheduler.begins_again:
            told += (
                f" {scheduler.title} pauses trials until others have come as far. A trial that goes on trains again "
                "from its beginning, to the same losses."
            )
        return told

    @override
    def checks(self, recipe: Recipe) -> tuple[Check, ...]:
        settings, search = _settings(recipe), recipe.experiments.search
        assert search is not None
        concern = settings.scheduler.scheduler().concern(search.trials, search.validations)
        if concern is None:
            return ()
        remedy = "raise experiments.search.trials, or choose another scheduler"
        return (Check(name="search scheduler", status="WARNING", sentence=concern, remedy=remedy),)


@final
class RayDriver(AbstractDriver):
    """One search by Ray Tune.

    Parameters
    ----------
    context : Context
        The study before it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._setup = Setup.of(context.recipe)
        self._settings = _settings(context.recipe)
        self.key = key_of(context.recipe)
        self.most = self._setup.trials

    @override
    def specs(self) -> list[TrialSpec]:
        return self._setup.sampled(self._context, self.most)

    @override
    def run(
        self,
        launcher: AbstractLauncher,
        folder: StudyFolder,
        progress: AbstractProgress,
        take: Callable[[TrialSpec, TrialRecord], None],
        most: int,
    ) -> dict[str, Any]:
        if not isinstance(launcher, RayLauncher):
            raise StudyError(
                "experiments.search.engine ray drives trials on a Ray cluster",
                hint="add --launcher ray, or set engine: optuna, which any launcher runs",
            )
        scheduler = self._settings.scheduler.scheduler()
        concern = scheduler.concern(most, self._setup.validations)
        if concern is not None:
            progress.note(concern)
        state = folder.path.resolve() / "search" / self.key
        plan = self._plan(launcher, folder, scheduler)
        search = Search(
            space=plan.space,
            scheduler=scheduler,
            algorithm=self._settings.chosen.algorithm(),
            trials=most,
            length=self._setup.validations,
            at_once=launcher.side_by_side(plan.layouts.values()),
            seed=self._context.recipe.seed,
        )
        if scheduler.evolves:
            trial = EvolvingTrial(plan, search.length, self._warmup_steps(plan))
            trials, best = Evolution(search, trial, state).run(launcher, progress, take)
            course = [] if best is None else [dataclasses.asdict(segment) for segment in best.course]
            return {"trials": trials, "course": course, "members": most}
        rule = rule_of(self._context.recipe) or ""
        return {"trials": TunedSearch(search, plan, rule, state).run(launcher, progress, take)}

    def _warmup_steps(self, plan: TrialPlan) -> dict[int, int]:
        whole = self._setup.warmup_fraction * self._setup.validations
        return {size: min(round(whole * spec.horizon), spec.horizon) for size, spec in plan.specs.items()}

    def _plan(self, launcher: RayLauncher, folder: StudyFolder, scheduler: AbstractScheduler) -> TrialPlan:
        context, setup = self._context, self._setup
        ladder = setup.ladder(context)
        bounds = setup.learning_rates or (ladder.lrs[0], ladder.lrs[-1])
        rule = rule_of(context.recipe)
        specs = {}
        for size in setup.batch_sizes:
            spec = setup.spec(context, bounds[0], size, 0)
            if scheduler.evolves:
                # A segment: its share of the steps at a constant LR, and one validation at its end.
                constant = ScheduleSpec(name="constant")
                steps = max(1, spec.horizon // setup.validations)
                spec = dataclasses.replace(spec, schedule=constant, horizon=steps, validate_every=0)
            specs[size] = (
                spec if rule is None or scheduler.evolves else dataclasses.replace(spec, stopper={"name": rule})
            )
        fits = largest_that_fits(context.findings)
        return TrialPlan(
            study=folder.path.resolve(),
            space=Space(learning_rates=bounds, batch_sizes=setup.batch_sizes),
            specs=specs,
            layouts={size: trial_layout(context.recipe, spec, fits) for size, spec in specs.items()},
            instruments={size: dict(riding_instruments(context.recipe, spec)) for size, spec in specs.items()},
            places={size: first_validations(spec, setup.validations) for size, spec in specs.items()},
            claims=folder.path.resolve() / "search" / self.key / "claims",
            settings=dataclasses.replace(launcher.settings, note=None),
            keeps_place=scheduler.begins_again,
        )


def rule_of(recipe: Recipe) -> str | None:
    """Return what ends trials early, as specs and records name it; None where nothing does."""
    name = _settings(recipe).scheduler.name
    return None if name == "none" else f"ray {name}"


def key_of(recipe: Recipe) -> str:
    """Return what a search is kept under: a name that tells searches of other settings apart."""
    search = recipe.experiments.search
    assert search is not None
    asked = search.model_dump(mode="json", exclude={"confirm", "tolerance", "at_once"})
    digest = hashlib.sha256(json.dumps([asked, recipe.seed], sort_keys=True).encode()).hexdigest()[:8]
    engine = _settings(recipe)
    return re.sub(r"[^\w-]", "-", f"ray-{engine.scheduler.name}-{engine.chosen.name}-{digest}")


def _settings(recipe: Recipe) -> RaySettings:
    search = recipe.experiments.search
    assert search is not None
    assert isinstance(search.engine, RaySettings)
    return search.engine


ENGINES.register(RayEngine.key)(RayEngine())
