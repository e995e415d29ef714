"""What the comparison of schedules found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.batch_schedules import GrownLR, build_batch_schedule
from lrscale.laws import LRSliceFit, MinimaComparison, compare_minima
from lrscale.laws.minima import MinimaRow
from lrscale.schedules import AbstractSchedule, is_pure
from lrscale.store import Trial, TrialSpec
from lrscale.study.cells import failed_for_their_own_reason, failure_checks, fit_cell, with_trials
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import tolerance
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.lr_answer import bounds
from lrscale.study.schedules.along import along_rows, read_courses, tried_at_best
from lrscale.study.schedules.cells import Entrant, comparison_batch, entrants, settings_of
from lrscale.study.specs import ANY_LR
from lrscale.study.words import interval_text, number

SHAPE_POINTS = 61


def answer(key: str, title: str, context: Context) -> Finding:
    """Return the finding: a ranking that admits ties, and how each entrant got on along the way.

    Parameters
    ----------
    key, title : str
        Of the experiment.
    context : Context
        With the finished trials.
    """
    settings = settings_of(context.recipe)
    entered = entrants(context)
    whole = {label: one.trials(context) for label, one in entered.items()}
    by_label = with_trials(whole)
    fits = {label: fit_cell(trials, tolerance=tolerance(context.recipe)) for label, trials in by_label.items()}
    ranked = _ranked(fits, settings.margin)
    rows = _rows(ranked, entered, fits, by_label, context)
    own = {label: fit for label, fit in fits.items() if entered[label].recommendable}
    own_rows = rows
    if 0 < len(own) < len(fits):
        # What is recommended is for the module as it is, at one batch size: those schedules among themselves.
        own_rows = _rows(_ranked(own, settings.margin), entered, fits, by_label, context)
    courses, target = read_courses(
        by_label,
        {label: fit.best_lr for label, fit in fits.items()},
        context.view.load_trajectory,
        None if context.recipe.target is None else context.recipe.target.loss,
    )
    along = along_rows({row["label"]: courses[row["label"]] for row in rows if row["label"] in courses}, _leader(rows))
    trials = [trial for some in by_label.values() for trial in some]
    data = {
        "batch_size": comparison_batch(context),
        "horizon_examples": max((trial.spec.examples for trial in trials), default=None),
        "monitor": next((trial.record.monitor for trial in trials if trial.record.monitor), None),
        "margin": settings.margin,
        "target_loss": target,
        "schedules": rows,
        "own_schedules": own_rows if own else [],
    }
    hidden = ("slice", "shape", "trials")
    known = [row for row in rows if row["loss"] is not None]
    numbers = {}
    if known:
        first = known[0]
        numbers["loss"] = Quantity(value=first["loss"], lo=first["loss_lo"], hi=first["loss_hi"])
        numbers["best_lr"] = Quantity(value=first["best_lr"], lo=first["lr_lo"], hi=first["lr_hi"])
    return Finding(
        key=key,
        title=title,
        status="ok" if known else "cannot_tell",
        sentence=_sentence(rows, data, settings.seeds),
        numbers=numbers,
        tables={
            "schedules": tuple({name: value for name, value in row.items() if name not in hidden} for row in rows),
            "along": tuple(along),
        },
        checks=tuple(_checks(whole, fits)),
        data=data,
        trial_ids=tuple(dict.fromkeys(trial.trial_id for trial in trials)),
    )


def _ranked(fits: Mapping[str, LRSliceFit], margin: float) -> MinimaComparison:
    lowest = min((fit.min_loss for fit in fits.values() if fit.min_loss is not None), default=0.0)
    return compare_minima(fits, margin * abs(lowest))


def _rows(
    ranked: MinimaComparison,
    entered: Mapping[str, Entrant],
    fits: Mapping[str, LRSliceFit],
    by_label: Mapping[str, Sequence[Trial]],
    context: Context,
) -> list[dict[str, Any]]:
    return [_row(entered[one.name], fits[one.name], by_label[one.name], context, one) for one in ranked.rows]


def _row(
    entrant: Entrant, fit: LRSliceFit, trials: Sequence[Trial], context: Context, entry: MinimaRow
) -> dict[str, Any]:
    lr_lo, lr_hi = bounds(fit.interval)
    loss_lo, loss_hi = bounds(fit.min_loss_interval)
    gap = entry.gap
    lo, hi = (None, None) if gap is None else bounds(gap.interval)
    return {
        "name": entrant.schedule.name,
        "label": entry.name,
        "optimizer": None if entrant.optimizer.is_own else entrant.optimizer.label,
        "pure": is_pure(entrant.schedule.name),
        "steps": entrant.cell.spec(context, ANY_LR, 0).course.steps,
        "largest_batch": _largest_batch(entrant.cell.spec(context, ANY_LR, 0)),
        "slice": fit.to_dict(),
        "shape": _shape(trials, fit.best_lr, context),
        "trials": [trial.trial_id for trial in trials],
        "best_lr": fit.best_lr,
        "lr_lo": lr_lo,
        "lr_hi": lr_hi,
        "loss": fit.min_loss,
        "loss_lo": loss_lo,
        "loss_hi": loss_hi,
        "difference": 0.0 if entry.leads else None if gap is None else gap.value,
        "difference_lo": lo,
        "difference_hi": hi,
        "verdict": entry.verdict,
        "places": None if entry.places is None else list(entry.places),
    }


def _shape(trials: Sequence[Trial], best_lr: float | None, context: Context) -> list[list[float]]:
    """Return the factor against the share of the horizon: as it is defined, or as it ran at the best LR."""
    if not trials:
        return []
    schedule, horizon = trials[0].spec.lr_schedule, trials[0].spec.horizon
    if schedule is None or not is_pure(trials[0].spec.schedule.name):
        return _course_of(tried_at_best(trials, best_lr), context)
    if trials[0].spec.batch_schedule is not None:
        return _grown_shape(trials[0].spec, schedule)
    points = []
    for point in range(SHAPE_POINTS):
        step = min(horizon - 1, round(point / (SHAPE_POINTS - 1) * (horizon - 1)))
        points.append([step / max(1, horizon - 1), schedule.factor(step, horizon)])
    return points


def _largest_batch(spec: TrialSpec) -> int:
    return spec.course.largest * spec.global_batch_size


def _grown_shape(spec: TrialSpec, schedule: AbstractSchedule) -> list[list[float]]:
    """Return the factor where the LR follows a batch that grows."""
    assert spec.batch_schedule is not None
    course = spec.course
    grown = GrownLR(schedule, course, build_batch_schedule(**dataclasses.asdict(spec.batch_schedule)).lr_power)
    places = range(0, course.steps, max(1, course.steps // SHAPE_POINTS))
    edges = [course.edges[step] for step in places]
    return [[edge / max(1, spec.horizon - 1), grown.factor(edge, spec.horizon)] for edge in edges]


def _course_of(trials: Sequence[Trial], context: Context) -> list[list[float]]:
    if not trials or trials[0].spec.schedule.name == "module":
        return []
    spec = trials[0].spec
    steps, lrs = context.view.load_trajectory(trials[0].trial_id).points("lr")
    last = max(1, spec.horizon - 1)
    rows = [[float(step - 1) / last, float(lr) / spec.peak_lr] for step, lr in zip(steps, lrs, strict=True)]
    return rows[:: max(1, len(rows) // SHAPE_POINTS)]


def _leader(rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((str(row["label"]) for row in rows if row["verdict"] in ("best", "lowest")), None)


def _sentence(rows: Sequence[Mapping[str, Any]], data: Mapping[str, Any], seeds: int) -> str:
    known = [row for row in rows if row["loss"] is not None]
    if not known:
        return "No schedule has an optimum inside its learning rates, so none can be compared."
    best = known[0]
    scope = f"at batch {data['batch_size']}, {data['horizon_examples']:,} examples, {seeds} seeds"
    loss = f"{number(best['loss'], 3)} ({interval_text(best['loss_lo'], best['loss_hi'], digits=3)})"
    tied = [row["label"] for row in known[1:] if row["verdict"] == "tied"]
    unclear = [row["label"] for row in known[1:] if row["verdict"] == "cannot tell"]
    worse = [row["label"] for row in known[1:] if row["verdict"] == "worse"]
    # Where no difference is shown the lowest fit says little: the next seed may name another.
    by = "" if best["verdict"] == "best" else " by its fit alone"
    sentence = (
        f"{best['label']} ends lowest{by}, at {loss}, with its own best peak LR {number(best['best_lr'])} ({scope})"
    )
    if tied:
        sentence += f"; {_listed(tied)} {'is' if len(tied) == 1 else 'are'} tied with it"
    if worse:
        sentence += f"; {_listed(worse)} {'is' if len(worse) == 1 else 'are'} worse"
    if unclear:
        sentence += f"; for {_listed(unclear)} the seeds cannot tell"
    untuned = [row["label"] for row in rows if row["loss"] is None]
    if untuned:
        sentence += f"; {_listed(untuned)} {'has' if len(untuned) == 1 else 'have'} no optimum inside the rates tried"
    return sentence + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _checks(whole: dict[str, list[Trial]], fits: dict[str, LRSliceFit]) -> list[Check]:
    checks = []
    for label, fit in fits.items():
        if fit.best_lr is None:
            checks.append(
                Check(
                    name=f"peak LR of {label} tuned",
                    status="WARNING",
                    sentence=f"{label} has no optimum inside its learning rates: {fit.reason}",
                    remedy="raise experiments.schedules.seeds, or lengthen the horizon",
                )
            )
    for label in (name for name in whole if name not in fits):
        checks.append(
            Check(
                name=f"peak LR of {label} tuned",
                status="WARNING",
                sentence=f"No trial under {label} has a loss.",
                remedy="run the study again, with a larger budget if it has one",
            )
        )
    for label, trials in whole.items():
        checks += failure_checks(f"trials of {label} ran", failed_for_their_own_reason(trials), len(trials))
    return checks
