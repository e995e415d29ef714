"""Schedule comparison: equal examples, each schedule at its own tuned peak LR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws import LRSliceFit, compare_minima
from lrscale.recipe import Recipe
from lrscale.schedules import build_schedule
from lrscale.store import Trial, TrialSpec
from lrscale.study.cells import Cell, failed_for_their_own_reason, fit_cell, with_trials
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import FEWEST_SEEDS, scaling_cells, start_lr, tolerance
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.lr_answer import bounds
from lrscale.study.range_test.ramps import middle, range_test_batch
from lrscale.study.specs import ANY_LR, WARMUP_FRACTION, mean_factor
from lrscale.study.words import interval_text, number
from lrscale.units import Duration

DEFAULT_HORIZON = Duration(20_000, "examples")
DEFAULT_RATIO = 2.0
MOST_LEARNING_RATES = 8
VALIDATIONS = 10
SHAPE_POINTS = 61
VERDICTS = {
    "best": "best",
    "equivalent": "tied",
    "tied": "cannot tell",
    "worse": "worse",
    "not comparable": "cannot tell",
}
"""Within the margin of the lowest is a tie; not told apart from it, with an interval that reaches beyond the margin,
is not known."""


@final
class ScheduleComparison(AbstractExperiment):
    """Tunes the peak LR of each schedule, then compares the fitted minima, ties admitted.

    At one common peak LR a comparison of schedules would be a comparison of the areas under them.
    """

    key: ClassVar[str] = "schedules"
    title: ClassVar[str] = "Schedules"
    question: ClassVar[str] = "Which schedule ends lowest at equal examples, each at its own best peak LR?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test", "scaling"})
    importance: ClassVar[int] = 70

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.schedules is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        start = _start(context)
        return [
            spec
            for label, cell in comparison_cells(context).items()
            for spec in cell.plan(context, start / _mean_factor(cell) / 2)
        ]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [spec for cell in comparison_cells(context).values() for spec in cell.at_most(context, ANY_LR)]

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        # The sweep has trained under one of the schedules already, where both are at the same batch and horizon.
        return [
            spec
            for cell in comparison_cells(context).values()
            if not _is_swept(context, cell)
            for spec in cell.typical(context, ANY_LR)
        ]

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.schedules
        assert settings is not None
        return [{"seeds": FEWEST_SEEDS}] if settings.seeds > FEWEST_SEEDS else []

    @override
    def analyse(self, context: Context) -> Finding:
        settings = context.recipe.experiments.schedules
        assert settings is not None
        start = _start(context)
        cells = comparison_cells(context)
        whole = {label: cell.trials(context, start / _mean_factor(cell) / 2) for label, cell in cells.items()}
        by_label = with_trials(whole)
        fits = {label: fit_cell(trials, tolerance=tolerance(context.recipe)) for label, trials in by_label.items()}
        return _finding(self, context, cells, whole, by_label, fits)


def comparison_cells(context: Context) -> dict[str, Cell]:
    """Return the cell of each compared schedule, by its label."""
    recipe = context.recipe
    settings = recipe.experiments.schedules
    assert settings is not None
    scaling = recipe.experiments.scaling
    cells = {}
    for choice in settings.schedules:
        cells[choice.label] = Cell(
            batch_size=comparison_batch(context),
            horizon=settings.horizon or (scaling.horizon if scaling is not None else DEFAULT_HORIZON),
            schedule=choice.name,
            settings=choice.settings,
            warmup_fraction=scaling.warmup_fraction if scaling is not None else WARMUP_FRACTION,
            warmup=choice.warmup,
            warmup_shape=choice.warmup_shape,
            seeds=settings.seeds,
            ratio=scaling.ratio if scaling is not None else DEFAULT_RATIO,
            most=MOST_LEARNING_RATES,
            validations=scaling.validations if scaling is not None else VALIDATIONS,
        )
    return cells


def comparison_batch(context: Context) -> int:
    """Return the global batch size of the comparison: its own, else the best of the sweep, else the middle one."""
    recipe = context.recipe
    settings = recipe.experiments.schedules
    if settings is not None and settings.batch_size is not None:
        return settings.batch_size
    scaling = context.findings.get("scaling")
    best = scaling.data.get("best_batch_size") if scaling is not None else None
    if best is not None:
        return int(best)
    if recipe.experiments.scaling is not None:
        return middle(recipe.experiments.scaling.batch_sizes)
    return range_test_batch(recipe)


def _is_swept(context: Context, cell: Cell) -> bool:
    if context.recipe.experiments.scaling is None:
        return False
    swept = scaling_cells(context).get(cell.batch_size)
    return swept is not None and swept.spec(context, ANY_LR, 0) == cell.spec(context, ANY_LR, 0)


def _start(context: Context) -> float:
    """Return the best peak LR of the sweep at the compared batch size, times two mean factors of its schedule.

    Peaks of schedules are near each other in peak x mean factor (convex theory: Schaipp et al. 2025,
    arXiv:2501.18965); this places the search, which then walks.
    """
    scaling = context.findings.get("scaling")
    batch = comparison_batch(context)
    if scaling is not None:
        for row in scaling.tables.get("slices", ()):
            if row["batch_size"] == batch and row["best_lr"]:
                settings = context.recipe.experiments.scaling
                assert settings is not None
                return float(row["best_lr"]) * 2 * mean_factor(settings.schedule.name, settings.schedule.settings)
    return start_lr(context, batch, 0.5)


def _mean_factor(cell: Cell) -> float:
    return mean_factor(cell.schedule, cell.settings)


def _shape(cell: Cell, trials: list[Trial]) -> list[list[float]]:
    if cell.schedule == "module" or not trials:
        return []
    spec = trials[0].spec
    schedule = build_schedule(spec.schedule.name, spec.schedule.settings, warmup_steps=spec.schedule.warmup_steps)
    points = []
    for point in range(SHAPE_POINTS):
        step = min(spec.horizon - 1, round(point / (SHAPE_POINTS - 1) * (spec.horizon - 1)))
        points.append([step / max(1, spec.horizon - 1), schedule.factor(step, spec.horizon)])
    return points


def _finding(
    experiment: ScheduleComparison,
    context: Context,
    cells: dict[str, Cell],
    whole: dict[str, list[Trial]],
    by_label: dict[str, list[Trial]],
    fits: dict[str, LRSliceFit],
) -> Finding:
    settings = context.recipe.experiments.schedules
    assert settings is not None
    lowest = min((fit.min_loss for fit in fits.values() if fit.min_loss is not None), default=0.0)
    ranked = compare_minima(fits, settings.margin * abs(lowest))
    rows: list[dict[str, Any]] = []
    for entry in ranked.rows:
        fit, cell = fits[entry.name], cells[entry.name]
        lr_lo, lr_hi = bounds(fit.interval)
        loss_lo, loss_hi = bounds(fit.min_loss_interval)
        gap = entry.gap
        lo, hi = (None, None) if gap is None else bounds(gap.interval)
        leads = gap is None and entry.standing != "not comparable"
        rows.append(
            {
                "name": cell.schedule,
                "label": entry.name,
                "slice": fit.to_dict(),
                "shape": _shape(cell, by_label[entry.name]),
                "best_lr": fit.best_lr,
                "lr_lo": lr_lo,
                "lr_hi": lr_hi,
                "loss": fit.min_loss,
                "loss_lo": loss_lo,
                "loss_hi": loss_hi,
                "difference": 0.0 if leads else None if gap is None else gap.value,
                "difference_lo": lo,
                "difference_hi": hi,
                "verdict": "best" if leads else VERDICTS[entry.standing],
            }
        )
    trials = [trial for some in by_label.values() for trial in some]
    data = {
        "batch_size": comparison_batch(context),
        "horizon_examples": max((trial.spec.examples for trial in trials), default=None),
        "monitor": next((trial.record.monitor for trial in trials if trial.record.monitor), None),
        "margin": settings.margin,
        "schedules": rows,
    }
    hidden = ("slice", "shape")
    table = tuple({key: value for key, value in row.items() if key not in hidden} for row in rows)
    known = [row for row in rows if row["loss"] is not None]
    numbers = {}
    if known:
        first = known[0]
        numbers["loss"] = Quantity(value=first["loss"], lo=first["loss_lo"], hi=first["loss_hi"])
        numbers["best_lr"] = Quantity(value=first["best_lr"], lo=first["lr_lo"], hi=first["lr_hi"])
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="ok" if known else "cannot_tell",
        sentence=_sentence(rows, data, settings.seeds),
        numbers=numbers,
        tables={"schedules": table},
        checks=tuple(_checks(whole, fits)),
        data=data,
        trial_ids=tuple(dict.fromkeys(trial.trial_id for trial in trials)),
    )


def _sentence(rows: list[dict[str, Any]], data: dict[str, Any], seeds: int) -> str:
    known = [row for row in rows if row["loss"] is not None]
    if not known:
        return "No schedule has an optimum inside its learning rates, so none can be compared."
    best = known[0]
    scope = f"at batch {data['batch_size']}, {data['horizon_examples']:,} examples, {seeds} seeds"
    loss = f"{number(best['loss'], 3)} ({interval_text(best['loss_lo'], best['loss_hi'])})"
    tied = [row["label"] for row in known[1:] if row["verdict"] == "tied"]
    unclear = [row["label"] for row in known[1:] if row["verdict"] == "cannot tell"]
    worse = [row["label"] for row in known[1:] if row["verdict"] == "worse"]
    sentence = f"{best['label']} ends lowest, at {loss}, with its own best peak LR {number(best['best_lr'])} ({scope})"
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
        failed = failed_for_their_own_reason(trials)
        if failed:
            record = failed[0].record
            checks.append(
                Check(
                    name=f"trials of {label} ran",
                    status="WARNING",
                    sentence=f"{len(failed)} of {len(trials)} trials ended as {record.status}: {record.reason}.",
                    remedy=f"see the log in trials/{record.trial_id}",
                )
            )
    return checks


EXPERIMENTS.register(ScheduleComparison.key)(ScheduleComparison())
