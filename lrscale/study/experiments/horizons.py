"""Horizons: the best LR and the final loss against the length of training, from trunks with cooldowns."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws import LRSliceFit
from lrscale.laws.horizons import fit_horizons
from lrscale.recipe import Horizons as HorizonsSettings
from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.cells import Cell, fit_cell
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import start_lr, tolerance
from lrscale.study.finding import Finding
from lrscale.study.horizons.answer import HorizonsAnswer, OwnRuns
from lrscale.study.horizons.curves import CurveCheck, curve_check
from lrscale.study.horizons.trunks import TRUNK, Trunks
from lrscale.study.horizons.walk import Walk
from lrscale.study.range_test.ramps import middle, range_test_batch
from lrscale.study.specs import ANY_LR, mean_factor

FEWEST_SEEDS = 1


@final
class Horizons(AbstractExperiment):
    """Trains one trunk for each LR at a constant LR, and cools down from it at each horizon.

    A horizon then costs its cooldown, and not a run of its own (Hägele et al. 2024, arXiv:2405.18392). The LRs walk
    until each horizon has its best one inside. Runs of their own at the second horizon measure what is shared.
    """

    key: ClassVar[str] = "horizons"
    title: ClassVar[str] = "Horizons"
    question: ClassVar[str] = "How do the best LR and the loss move with the length of training?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test", "scaling"})
    importance: ClassVar[int] = 75

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.horizons is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        walk, own = _walk(context), _own_cell(context)
        if own is None or walk.open:
            return walk.specs
        return walk.specs + own[1].plan(context, walk.lowest(own[0]) or _start(context))

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        trunks, own = _trunks(context), _own_cell(context)
        return trunks.counted(context, ANY_LR, trunks.most) + ([] if own is None else own[1].at_most(context, ANY_LR))

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        trunks, own = _trunks(context), _own_cell(context)
        usual = trunks.counted(context, ANY_LR, trunks.typical)
        return usual + ([] if own is None else own[1].typical(context, ANY_LR))

    @override
    def returns_to(self, spec: TrialSpec, wanted: Collection[TrialSpec]) -> bool:
        # A longer horizon may take a trunk further from its end.
        parts = (one for one in wanted if one.schedule.name == TRUNK and one.branch is not None)
        return spec.schedule.name == TRUNK and all(one.branch.trial_id != spec.trial_id for one in parts if one.branch)

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = _settings(recipe)
        found: list[dict[str, Any]] = [{"own_runs": False}] if settings.own_runs else []
        if settings.seeds > FEWEST_SEEDS:
            found.append({"own_runs": False, "seeds": FEWEST_SEEDS})
        return found

    @override
    def analyse(self, context: Context) -> Finding:
        trunks, walk = _trunks(context), _walk(context)
        slices, size = walk.slices(tolerance=tolerance(context.recipe)), trunks.batch_size
        losses: dict[float, dict[int, float]] = {
            horizon * size: _at_minimum(walk.losses_at(fit.best_lr, horizon), fit.min_loss)
            for horizon, fit in slices.items()
            if fit.best_lr is not None and fit.min_loss is not None
        }
        answer = HorizonsAnswer(
            trunks=trunks,
            cost_ratio=walk.cost_ratio,
            slices=slices,
            laws=fit_horizons({horizon * size: fit for horizon, fit in slices.items()}, losses, size),
            own=_own_runs(context, walk),
            curves=_curves(context, trunks, walk, slices),
            trials=tuple(walk.trials),
        )
        return answer.finding(self.key, self.title)


def _settings(recipe: Recipe) -> HorizonsSettings:
    settings = recipe.experiments.horizons
    assert settings is not None
    return settings


def _walk(context: Context) -> Walk:
    return Walk(context, _trunks(context), _start(context))


def _trunks(context: Context) -> Trunks:
    return Trunks.of(context, _settings(context.recipe), _batch(context))


def _batch(context: Context) -> int:
    recipe = context.recipe
    own = _settings(recipe).batch_size
    if own is not None:
        return own
    scaling = context.findings.get("scaling")
    best = scaling.data.get("best_batch_size") if scaling is not None else None
    if best is not None:
        return int(best)
    if recipe.experiments.scaling is not None:
        return middle(recipe.experiments.scaling.batch_sizes)
    return range_test_batch(recipe)


def _start(context: Context) -> float:
    """Return the LR that the walk begins around: the sweep's best one at an equal area, else the range test's."""
    trunks = _trunks(context)
    own = mean_factor("wsd", trunks.schedule)
    scaling, settings = context.findings.get("scaling"), context.recipe.experiments.scaling
    if scaling is not None and settings is not None:
        for row in scaling.tables.get("slices", ()):
            if row["batch_size"] == trunks.batch_size and row["best_lr"]:
                swept = mean_factor(settings.schedule.name, settings.schedule.settings)
                return float(row["best_lr"]) * swept / own
    return start_lr(context, trunks.batch_size, own)


def _own_cell(context: Context) -> tuple[int, Cell] | None:
    settings, trunks = _settings(context.recipe), _trunks(context)
    if not settings.own_runs:
        return None
    horizon = trunks.horizons[1]
    cell = trunks.own_cell(horizon)
    if settings.learning_rates is not None:
        cell = dataclasses.replace(cell, learning_rates=settings.learning_rates)
    return horizon, cell


def _curves(context: Context, trunks: Trunks, walk: Walk, slices: Mapping[int, LRSliceFit]) -> CurveCheck | None:
    longest = trunks.horizons[-1]
    fit = slices.get(longest)
    lr = None if fit is None or fit.best_lr is None else walk.nearest(fit.best_lr, longest)
    return None if lr is None else curve_check(context, trunks, lr)


def _at_minimum(losses: Mapping[int, float], lowest: float) -> dict[int, float]:
    """Return losses of runs beside the best LR as they would be at it, on average the fitted minimum."""
    mean = sum(losses.values()) / max(1, len(losses))
    return {seed: loss - mean + lowest for seed, loss in losses.items()}


def _own_runs(context: Context, walk: Walk) -> OwnRuns | None:
    own = _own_cell(context)
    if own is None or walk.open:
        return None
    horizon, cell = own
    trials = cell.trials(context, walk.lowest(horizon) or _start(context))
    if not any(trial.record.final_loss is not None for trial in trials):
        return None
    return OwnRuns(horizon=horizon, fit=fit_cell(trials, tolerance=tolerance(context.recipe)), trials=tuple(trials))


EXPERIMENTS.register(Horizons.key)(Horizons())
