"""LR x batch scaling: the best LR at each batch size, and the law that links them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws import FitStatus, LRSliceFit, OptimalLRFit, fit_optimal_lr
from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.cells import Cell, failed_for_their_own_reason, failure_checks, fit_cell, with_trials
from lrscale.study.companions_answer import with_companions
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, Finding
from lrscale.study.fit_residuals import fit_residuals
from lrscale.study.gap_rows import KEY as GAPS
from lrscale.study.gap_rows import gap_rows
from lrscale.study.lr_answer import answer_numbers, answer_sentence, best_batch, law_rows, slice_rows
from lrscale.study.noise_rows import GROWTH, seed_noise
from lrscale.study.range_test.ramps import middle
from lrscale.study.specs import mean_factor
from lrscale.study.stopping_cost import KEY as STOPPING
from lrscale.study.stopping_cost import stopped_sentence, stopping_rows, stopping_sentence
from lrscale.study.target_loss import with_target_loss

FALLBACK_START = 1e-3
"""Where a search begins when neither a range test nor the module's own LR says better."""
DEFAULT_TOLERANCE = 1e-3
FEWEST_SEEDS = 2
"""Replicates that a small budget leaves: with one the noise of a slice is not seen."""


@final
class Scaling(AbstractExperiment):
    """Fits an LR slice at each batch size, at equal examples and with paired seeds, and a law through the optima."""

    key: ClassVar[str] = "scaling"
    title: ClassVar[str] = "Learning rate and batch size"
    question: ClassVar[str] = "Which learning rate is best at each batch size, and how does it scale?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test"})
    importance: ClassVar[int] = 20

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.scaling is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        # The middle batch size first; its best LR tells the others where to begin, by the square-root rule. That rule
        # decides the cost of the search only: every cell walks until its own optimum is inside.
        cells = scaling_cells(context)
        reference = middle(tuple(cells))
        start = _first_lr(context, reference)
        wanted = cells[reference].plan(context, start)
        if cells[reference].is_placed(context, start):
            for batch_size, cell in cells.items():
                if batch_size != reference:
                    wanted += cell.plan(context, _start_of(context, cells, batch_size))
            for others in other_policies(context).values():
                for batch_size, cell in others.items():
                    wanted += cell.plan(context, _start_of(context, cells, batch_size))
        return wanted

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [spec for cell in _all_cells(context) for spec in cell.at_most(context, FALLBACK_START)]

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        return [spec for cell in _all_cells(context) for spec in cell.typical(context, FALLBACK_START)]

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.scaling
        assert settings is not None
        sizes = sorted(settings.batch_sizes)
        # The middle one stays in place: the range test and the noise scale are measured there.
        thinned = ([sizes[0], middle(sizes), sizes[-1]], [middle(sizes), sizes[-1]], [middle(sizes)])
        fewer = {"seeds": min(settings.seeds, FEWEST_SEEDS)}
        found: list[dict[str, Any]] = [fewer] if settings.seeds > FEWEST_SEEDS else []
        return found + [{**fewer, "batch_sizes": kept} for kept in thinned if len(kept) < len(sizes)]

    @override
    def analyse(self, context: Context) -> Finding:
        cells = scaling_cells(context)
        whole = {size: cell.trials(context, _start_of(context, cells, size)) for size, cell in cells.items()}
        by_batch = with_trials(whole)
        fits = {size: fit_cell(trials, tolerance=tolerance(context.recipe)) for size, trials in by_batch.items()}
        law = fit_optimal_lr(list(fits), list(fits.values()))
        finding = with_target_loss(_finding(self, context, whole, by_batch, fits, law), context, by_batch)
        finding = _with_stopping(finding, context, by_batch, fits)
        others = self._trials_of_others(context, cells)
        return with_companions(finding, context, fits, others, tolerance(context.recipe))

    def _trials_of_others(self, context: Context, cells: dict[int, Cell]) -> dict[str, dict[int, list[Trial]]]:
        return {
            policy: with_trials(
                {size: cell.trials(context, _start_of(context, cells, size)) for size, cell in others.items()}
            )
            for policy, others in other_policies(context).items()
        }


def _all_cells(context: Context) -> list[Cell]:
    others = [cell for cells in other_policies(context).values() for cell in cells.values()]
    return [*scaling_cells(context).values(), *others]


def other_policies(context: Context) -> dict[str, dict[int, Cell]]:
    """Return the cells of the companions policies that are compared with the first, without the reference batch size.

    There nothing moves, so that its trials are the same under every policy.
    """
    settings = context.recipe.experiments.scaling
    assert settings is not None
    return {
        policy: {
            size: dataclasses.replace(cell, companions=policy)
            for size, cell in scaling_cells(context).items()
            if size != settings.reference_batch_size
        }
        for policy in settings.companions[1:]
    }


def scaling_cells(context: Context) -> dict[int, Cell]:
    """Return the cell of each batch size under the recipe's first companions policy, ascending."""
    settings = context.recipe.experiments.scaling
    assert settings is not None
    return {
        size: Cell(
            batch_size=size,
            horizon=settings.horizon,
            schedule=settings.schedule.name,
            settings=settings.schedule.settings,
            warmup_fraction=settings.warmup_fraction,
            warmup=settings.schedule.warmup,
            warmup_shape=settings.schedule.warmup_shape,
            seeds=settings.seeds,
            ratio=settings.ratio,
            most=settings.max_learning_rates,
            validations=settings.validations,
            learning_rates=settings.learning_rates,
            stopper=None if settings.stopper.stopper() is None else settings.stopper,
        )
        for size in sorted(settings.batch_sizes)
    }


def tolerance(recipe: Recipe) -> float:
    """Return the relative loss difference that the user calls equal."""
    return recipe.target.tolerance if recipe.target is not None else DEFAULT_TOLERANCE


def start_lr(context: Context, batch_size: int, mean_factor: float) -> float:
    """Return where a search begins: at the LR that the range test confirmed, in its bracket, or at the module's own.

    A confirmed LR is that of a constant schedule. It is carried to another batch size by the square-root rule, and to a
    schedule by its area: peaks of schedules are near each other in peak x mean factor (convex theory: Schaipp et al.
    2025, arXiv:2501.18965). The search walks from there until the optimum is inside: the start decides its cost only.

    Parameters
    ----------
    context : Context
        With the finding of the range test, where there is one.
    batch_size : int
        Global batch size of the search.
    mean_factor : float
        Mean over the horizon of the schedule that is searched under, in (0, 1].
    """
    confirmed = confirmed_lr(context, batch_size, mean_factor)
    if confirmed is not None:
        return confirmed
    range_test = context.findings.get("range_test")
    bracket = None if range_test is None else range_test.data.get("bracket")
    if bracket is not None:
        return math.sqrt(bracket[0] * bracket[1])
    own = context.facts.get("reference_lr")
    return float(own) if isinstance(own, (int, float)) and own > 0 else FALLBACK_START


def confirmed_lr(context: Context, batch_size: int, mean_factor: float) -> float | None:
    """Return the LR that the range test confirmed, carried as `start_lr` says, or None without one."""
    range_test = context.findings.get("range_test")
    confirmed = [
        (member["batch_size"], member["confirmation"]["lr"])
        for member in (range_test.data.get("family", ()) if range_test is not None else ())
        if member["confirmation"] is not None and member["confirmation"]["lr"] is not None
    ]
    if not confirmed:
        return None
    near, lr = min(confirmed, key=lambda one: abs(math.log(one[0] / batch_size)))
    return float(lr * math.sqrt(batch_size / near) / mean_factor)


def _first_lr(context: Context, batch_size: int) -> float:
    settings = context.recipe.experiments.scaling
    assert settings is not None
    return start_lr(context, batch_size, mean_factor(settings.schedule.name, settings.schedule.settings))


def _start_of(context: Context, cells: dict[int, Cell], batch_size: int) -> float:
    reference = middle(tuple(cells))
    start = _first_lr(context, reference)
    best = cells[reference].best_lr(context, start)
    if batch_size == reference or best is None:
        return start
    return float(best * (batch_size / reference) ** 0.5)


def _finding(
    experiment: Scaling,
    context: Context,
    whole: dict[int, list[Trial]],
    by_batch: dict[int, list[Trial]],
    fits: dict[int, LRSliceFit],
    law: OptimalLRFit,
) -> Finding:
    settings = context.recipe.experiments.scaling
    assert settings is not None
    trials = [trial for some in by_batch.values() for trial in some]
    best = best_batch(fits)
    data: dict[str, Any] = {
        "horizon_examples": max((trial.spec.examples for trial in trials), default=None),
        "schedule": settings.schedule.name,
        "monitor": next((trial.record.monitor for trial in trials if trial.record.monitor), None),
        "seeds": settings.seeds,
        "cells": [
            {"batch_size": size, "slice": fits[size].to_dict(), "trials": [trial.trial_id for trial in by_batch[size]]}
            for size in by_batch
        ],
        "law": law.to_dict(),
        "best_batch_size": best,
    }
    noise = seed_noise(data["cells"])
    data[GROWTH] = noise.growth
    examples = data["horizon_examples"]
    scope = f"{settings.seeds} seeds, {examples:,} examples" if best is not None else ""
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="ok" if best is not None else "cannot_tell",
        sentence=answer_sentence(fits, law, scope=scope),
        numbers=answer_numbers(fits, law, unit="examples"),
        tables={
            "slices": slice_rows(fits, {size: len(some) for size, some in by_batch.items()}),
            "laws": law_rows(law),
            GAPS: gap_rows(by_batch, fits),
            **noise.tables,
            **fit_residuals(data["cells"]).tables,
        },
        checks=tuple(_checks(context, whole, fits)),
        data=data,
        trial_ids=tuple(trial.trial_id for trial in trials),
    )


def _with_stopping(
    finding: Finding, context: Context, by_batch: Mapping[int, list[Trial]], fits: Mapping[int, LRSliceFit]
) -> Finding:
    """Add what ending trials early would have saved, and what it would have cost, where the trials tell."""
    settings = context.recipe.experiments.scaling
    assert settings is not None
    whole: Mapping[int, list[Trial]] = by_batch
    done = None
    if settings.stopper.stopper() is not None:
        done = stopped_sentence([trial for some in by_batch.values() for trial in some], settings.stopper.name)
        # Among the others the rule has chosen already who is complete.
        whole = {size: [one for one in some if one.spec.seed == context.recipe.seed] for size, some in by_batch.items()}
    rows = stopping_rows(context, whole, fits, settings.validations)
    sentence = " ".join(filter(None, [done, stopping_sentence(rows)]))
    if not sentence:
        return finding
    check = Check(name="early stopping", status="INFO", sentence=sentence)
    return dataclasses.replace(finding, tables={**finding.tables, STOPPING: rows}, checks=(*finding.checks, check))


def _checks(context: Context, whole: dict[int, list[Trial]], fits: dict[int, LRSliceFit]) -> list[Check]:
    checks = []
    settings = context.recipe.experiments.scaling
    assert settings is not None
    for size, fit in fits.items():
        name = f"optimum inside at batch {size}"
        if fit.best_lr is not None:
            checks.append(Check(name=name, status="PASS", sentence=fit.reason))
        else:
            remedy = _remedy(fit, settings.learning_rates is not None, settings.seeds, settings.max_learning_rates)
            checks.append(Check(name=name, status="WARNING", sentence=fit.reason, remedy=remedy))
    for size in sorted(whole.keys() - fits.keys()):
        checks.append(
            Check(
                name=f"optimum inside at batch {size}",
                status="WARNING",
                sentence=f"No trial at batch {size} has a loss.",
                remedy="run the study again, with a larger budget if it has one",
            )
        )
    for size, trials in whole.items():
        checks += failure_checks(f"trials at batch {size} ran", failed_for_their_own_reason(trials), len(trials))
    return checks


def _remedy(fit: LRSliceFit, own_grid: bool, seeds: int, most: int) -> str:
    if fit.status in (FitStatus.NOT_IDENTIFIABLE, FitStatus.POOR_FIT):
        return f"the noise hides the optimum: raise experiments.scaling.seeds above {seeds}, or lengthen the horizon"
    if own_grid:
        return "widen experiments.scaling.learning_rates"
    return f"raise experiments.scaling.max_learning_rates above {most}"


EXPERIMENTS.register(Scaling.key)(Scaling())
