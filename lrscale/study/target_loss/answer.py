"""What the trials of a study say about the steps to a target loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.laws.base import FitStatus
from lrscale.laws.steps import StepsFit, fit_steps_to_target
from lrscale.recipe import Recipe
from lrscale.store import Trial
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.target_loss.crossings import (
    EARLIEST,
    FEWEST_BATCHES,
    FEWEST_VALIDATIONS,
    LATEST,
    Curve,
    Run,
    choose_target,
    read_curves,
    soonest,
)
from lrscale.study.words import interval_text, number

KEY = "target_loss"
"""Where the answer lies in the data of the finding on scaling."""
COMPARABLE = "constant"
"""Schedule under which a loss on the way is that of a run which ends there, but for the length of its warm-up."""


def with_target_loss(finding: Finding, context: Context, by_batch: Mapping[int, Sequence[Trial]]) -> Finding:
    """Add the steps to a target loss at each batch size to the finding on scaling; unchanged where nothing asks.

    Asked by a loss in the recipe's target, by an objective that stands on one, and by trials that can answer: at three
    batch sizes or more under a constant LR.

    Parameters
    ----------
    finding : Finding
    context : Context
    by_batch : mapping of batch size to sequence of Trial
    """
    if not _is_asked(context.recipe):
        return finding
    data, checks = _answer(context, by_batch)
    numbers, rows = dict(finding.numbers), tuple(data["runs"])
    if data["fit"] is not None:
        fit = StepsFit.from_dict(data["fit"])
        critical = next((one for one in fit.law.derived if one.name == "critical_batch"), None)
        if critical is not None:
            ends = critical.interval
            lo, hi = (None, None) if ends is None else (ends.lo, ends.hi)
            numbers["critical_batch"] = Quantity(value=critical.value, lo=lo, hi=hi, unit="examples")
    return dataclasses.replace(
        finding,
        numbers=numbers,
        tables={**finding.tables, **({KEY: rows} if rows else {})},
        checks=(*finding.checks, *checks),
        data={**finding.data, KEY: data},
    )


def _is_asked(recipe: Recipe) -> bool:
    settings, target = recipe.experiments.scaling, recipe.target
    assert settings is not None
    if target is not None and (target.loss is not None or target.objective in ("cost", "time_price")):
        return True
    return _is_comparable(recipe) and len(settings.batch_sizes) >= FEWEST_BATCHES


def _is_comparable(recipe: Recipe) -> bool:
    settings = recipe.experiments.scaling
    return recipe.task.schedule == "ours" and settings is not None and settings.schedule.name == COMPARABLE


def _answer(context: Context, by_batch: Mapping[int, Sequence[Trial]]) -> tuple[dict[str, Any], list[Check]]:
    recipe = context.recipe
    stated = None if recipe.target is None else recipe.target.loss
    data: dict[str, Any] = {
        "target": stated,
        "stated": stated is not None,
        "rule": "stated in the recipe" if stated is not None else _rule(),
        "reason": None,
        "needs": None,
        "fit": None,
        "runs": [],
    }
    refusal = _incomparable(recipe)
    if refusal is not None:
        return _refused(data, *refusal)
    read = {size: read_curves(trials, context.view.load_trajectory) for size, trials in by_batch.items()}
    curves = {size: some for size, some in read.items() if some}
    if len(curves) < FEWEST_BATCHES:
        return _refused(
            data,
            f"{len(curves)} batch sizes have trials that completed, and the law of the steps takes {FEWEST_BATCHES}",
            "add batch sizes to experiments.scaling.batch_sizes, or see why their trials ended",
        )
    fewest = min(curve.steps.size for some in curves.values() for curve in some)
    if fewest < FEWEST_VALIDATIONS:
        return _refused(
            data,
            f"a trial has {fewest} validations, and the step at which it reaches a loss takes {FEWEST_VALIDATIONS}",
            "raise experiments.scaling.validations, in a new study",
        )
    common = choose_target(curves)
    target = stated if stated is not None else common
    if target is None:
        return _refused(
            data,
            f"no loss is reached by {FEWEST_BATCHES} batch sizes in the last {100 * (1 - EARLIEST):.0f} % of "
            "their runs",
            "bring experiments.scaling.batch_sizes nearer together, or lengthen the horizon",
        )
    runs = [run for some in curves.values() for run in soonest(some, target)]
    data |= {"target": target, "runs": [_row(run) for run in runs]}
    reached = {run.curve.batch_size for run in runs if run.reached}
    if len(reached) < FEWEST_BATCHES:
        return _refused(data, *_too_few(runs, reached, target, common))
    fit = fit_steps_to_target(
        [run.curve.batch_size for run in runs],
        [run.crossing.step or math.nan for run in runs],
        censored=[run.crossing.censored for run in runs],
        seed=[run.curve.seed for run in runs],
    )
    data |= {"fit": fit.to_dict(), "reason": _sentence(fit, target, runs)}
    told = fit.status in (FitStatus.OK, FitStatus.CENSORED_HIGH, FitStatus.CENSORED_LOW)
    check = Check(
        name="steps to a target loss",
        status="INFO" if told else "WARNING",
        sentence=data["reason"],
        remedy=None if told else "add seeds, or batch sizes further apart",
    )
    return data, [check, *_warnings(curves, runs, target)]


def _incomparable(recipe: Recipe) -> tuple[str, str] | None:
    settings = recipe.experiments.scaling
    assert settings is not None
    if not _is_comparable(recipe):
        own = recipe.task.schedule != "ours"
        name = "the module's own schedule" if own else f"the {settings.schedule.name} schedule"
        return (
            f"the trials follow {name}, built for their whole length: a loss on the way is not what a run that ends "
            "there would reach, so that steps to a loss cannot be read off them",
            "run scaling under a constant LR in a study of its own: --set experiments.scaling.schedule=constant",
        )
    return None


def _too_few(runs: Sequence[Run], reached: set[int], target: float, common: float | None) -> tuple[str, str]:
    sizes = {run.curve.batch_size for run in runs}
    begin = {run.curve.batch_size for run in runs if run.crossing.status is FitStatus.CENSORED_LOW} - reached
    low = f", {len(begin)} are there at their first validation" if begin else ""
    reason = (
        f"{len(reached)} of {len(sizes)} batch sizes are seen to come down to loss {target:.4g}{low}, and the "
        f"law takes {FEWEST_BATCHES}"
    )
    other = "" if common is None else f", such as {common:.4g}"
    if begin:
        return reason, f"name a lower target.loss{other}"
    return reason, f"lengthen experiments.scaling.horizon, or name a higher target.loss{other}"


def _refused(data: dict[str, Any], reason: str, needs: str) -> tuple[dict[str, Any], list[Check]]:
    sentence = f"Steps to a target loss cannot be told: {reason}."
    data |= {"reason": sentence, "needs": needs}
    return data, [Check(name="steps to a target loss", status="INFO", sentence=sentence, remedy=needs)]


def _warnings(curves: Mapping[int, Sequence[Curve]], runs: Sequence[Run], target: float) -> list[Check]:
    found = []
    early = sorted({run.curve.batch_size for run in runs if run.early})
    if early:
        found.append(
            Check(
                name="target reached late enough",
                status="WARNING",
                sentence=f"Runs at batch {_sizes(early)} come to loss {target:.4g} within the first "
                f"{100 * EARLIEST:.0f} % of their length, where warm-up and the first validations decide the step.",
                remedy="name a lower target.loss",
            )
        )
    lrs = {size: sorted({curve.lr for curve in some}) for size, some in curves.items()}
    edge = sorted(
        {run.curve.batch_size for run in runs if run.curve.lr in (lrs[run.curve.batch_size][i] for i in (0, -1))}
    )
    if edge:
        found.append(
            Check(
                name="LR tuned for the target",
                status="WARNING",
                sentence=f"At batch {_sizes(edge)} loss {target:.4g} is reached soonest at the end of the LRs that all "
                "seeds tried; another LR may reach it sooner.",
                remedy="give experiments.scaling.learning_rates as a grid that reaches further",
            )
        )
    return found


def _sentence(fit: StepsFit, target: float, runs: Sequence[Run]) -> str:
    sizes = len({run.curve.batch_size for run in runs})
    scope = f"{len(runs)} runs at {sizes} batch sizes under a constant LR"
    critical = next((one for one in fit.law.derived if one.name == "critical_batch"), None)
    ends = None if critical is None else critical.interval
    if critical is None or ends is None or (ends.lo is None and ends.hi is None):
        return f"The critical batch size at loss {target:.4g} cannot be told: {fit.reason} ({scope})."
    interval = interval_text(ends.lo, ends.hi, ends.confidence)
    known = interval if critical.value is None else f"{number(critical.value, 3)} ({interval})"
    doubt = "" if fit.status is not FitStatus.POOR_FIT else f" The law misses the steps: {fit.reason}."
    return f"To reach loss {target:.4g} the critical batch size is {known} examples, from {scope}.{doubt}"


def _row(run: Run) -> dict[str, Any]:
    return {
        "batch_size": run.curve.batch_size,
        "lr": run.curve.lr,
        "seed": run.curve.seed,
        "steps": run.crossing.step,
        "lo": run.crossing.lo,
        "hi": run.crossing.hi,
        "censored": run.crossing.censored,
        "trial_id": run.curve.trial_id,
    }


def _rule() -> str:
    return (
        f"the lowest loss that every batch size counted on has reached by {100 * LATEST:.0f} % of its run and none "
        f"before {100 * EARLIEST:.0f} %"
    )


def _sizes(sizes: Sequence[int]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)
