"""Growing batch: a batch that grows against an LR that decays, at equal examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws import LRSliceFit, minima_difference
from lrscale.laws.difference import Difference, paired_difference
from lrscale.recipe import GrowingBatch as GrowingBatchSettings
from lrscale.recipe import Recipe
from lrscale.store import BatchScheduleSpec, Trial, TrialSpec
from lrscale.study.cells import Cell, fit_cell
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import start_lr, tolerance
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.lr_answer import bounds
from lrscale.study.optimizer_rule import lr_power
from lrscale.study.specs import ANY_LR, WARMUP_FRACTION, mean_factor
from lrscale.study.words import interval_text, number

DECAYING, GROWING = "decaying LR", "growing batch"
DEFAULT_RATIO = 2.0
VALIDATIONS = 10
FEWEST_SEEDS = 2


@final
class GrowingBatch(AbstractExperiment):
    """Tunes the peak LR of both, each on the other's examples, and compares the fitted minima and the pairs.

    Smith et al. 2018 (arXiv:1711.00489) hold that SGD does not care which of the two lowers the noise of its steps. For
    Adam and its kind the noise goes with LR / sqrt(batch), so that a decay by f is worth a batch 1 / f^2 times as large
    (Malladi et al. 2022, arXiv:2205.10287).
    """

    key: ClassVar[str] = "growing_batch"
    title: ClassVar[str] = "Growing batch"
    question: ClassVar[str] = "Does growing the batch do what decaying the LR does?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test", "scaling"})
    importance: ClassVar[int] = 80

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.growing_batch is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        start = _start(context)
        return [spec for cell in growing_cells(context).values() for spec in cell.plan(context, start)]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [spec for cell in growing_cells(context).values() for spec in cell.at_most(context, ANY_LR)]

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        return [spec for cell in growing_cells(context).values() for spec in cell.typical(context, ANY_LR)]

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.growing_batch
        assert settings is not None
        return [{"seeds": FEWEST_SEEDS}] if settings.seeds > FEWEST_SEEDS else []

    @override
    def analyse(self, context: Context) -> Finding:
        start = _start(context)
        cells = growing_cells(context)
        trials = {name: cell.trials(context, start) for name, cell in cells.items()}
        fits = {
            name: fit_cell(own, tolerance=tolerance(context.recipe))
            for name, own in trials.items()
            if any(trial.record.final_loss is not None for trial in own)
        }
        return _finding(self, context, trials, fits)


def growing_cells(context: Context) -> dict[str, Cell]:
    """Return the cells of both: they differ in the batch schedule alone."""
    settings = _settings(context)
    scaling = context.recipe.experiments.scaling
    horizon = settings.horizon or (None if scaling is None else scaling.horizon)
    assert horizon is not None  # the recipe has refused it
    decaying = Cell(
        batch_size=growing_batch_size(context),
        horizon=horizon,
        schedule=settings.schedule.name,
        settings=settings.schedule.settings,
        warmup_fraction=WARMUP_FRACTION if scaling is None else scaling.warmup_fraction,
        warmup=settings.schedule.warmup,
        warmup_shape=settings.schedule.warmup_shape,
        seeds=settings.seeds,
        ratio=DEFAULT_RATIO if scaling is None else scaling.ratio,
        most=settings.max_learning_rates,
        validations=VALIDATIONS if scaling is None else scaling.validations,
    )
    grown = BatchScheduleSpec(name="instead_of_decay", settings={"power": growth_power(context), "most": settings.most})
    return {DECAYING: decaying, GROWING: dataclasses.replace(decaying, batch_schedule=grown)}


def growing_batch_size(context: Context) -> int:
    """Return the first batch size: the recipe's, else the smallest of the sweep, which has the most room to grow."""
    own, scaling = _settings(context).batch_size, context.recipe.experiments.scaling
    if own is not None:
        return own
    assert scaling is not None  # the recipe has refused it
    return min(scaling.batch_sizes)


def growth_power(context: Context) -> float:
    """Return the power by which the batch answers a decay: the inverse of that by which the LR follows the batch."""
    return 1 / lr_power(_settings(context).rule, context.facts)


def _settings(context: Context) -> GrowingBatchSettings:
    settings = context.recipe.experiments.growing_batch
    assert settings is not None
    return settings


def _start(context: Context) -> float:
    settings, scaling = _settings(context), context.recipe.experiments.scaling
    own = mean_factor(settings.schedule.name, settings.schedule.settings)
    found = context.findings.get("scaling")
    if found is not None and scaling is not None:
        for row in found.tables.get("slices", ()):
            if row["batch_size"] == growing_batch_size(context) and row["best_lr"]:
                return float(row["best_lr"]) * mean_factor(scaling.schedule.name, scaling.schedule.settings) / own
    return start_lr(context, growing_batch_size(context), own)


def _at_best(trials: Sequence[Trial], lr: float) -> dict[Any, float | None]:
    return {trial.spec.seed: trial.record.final_loss for trial in trials if trial.spec.peak_lr == lr}


def _paired(trials: Mapping[str, list[Trial]], fits: Mapping[str, LRSliceFit], margin: float) -> tuple[Any, Any]:
    """Return the peak LR of the decaying runs that lies nearest to their best one, and the difference there."""
    best = fits[DECAYING].best_lr if DECAYING in fits else None
    common = {one.spec.peak_lr for one in trials[DECAYING]} & {one.spec.peak_lr for one in trials[GROWING]}
    if best is None or not common:
        return None, None
    lr = min(common, key=lambda own: max(own / best, best / own))
    return lr, paired_difference(_at_best(trials[GROWING], lr), _at_best(trials[DECAYING], lr), margin=margin)


def _finding(
    experiment: GrowingBatch, context: Context, trials: Mapping[str, list[Trial]], fits: Mapping[str, LRSliceFit]
) -> Finding:
    settings = _settings(context)
    lowest = min((fit.min_loss for fit in fits.values() if fit.min_loss is not None), default=0.0)
    margin = settings.margin * abs(lowest)
    rows = []
    for name, cell in growing_cells(context).items():
        fit, spec = fits.get(name), cell.spec(context, ANY_LR, 0)
        lo, hi = bounds(None if fit is None else fit.interval)
        loss_lo, loss_hi = bounds(None if fit is None else fit.min_loss_interval)
        rows.append(
            {
                "what": name,
                "best_lr": None if fit is None else fit.best_lr,
                "lr_lo": lo,
                "lr_hi": hi,
                "loss": None if fit is None else fit.min_loss,
                "loss_lo": loss_lo,
                "loss_hi": loss_hi,
                "steps": spec.course.steps,
                "examples": spec.examples,
                "largest_batch": spec.course.largest * spec.global_batch_size,
                "runs": 0 if fit is None else fit.n_runs,
            }
        )
    tuned = _tuned(fits, margin)
    lr, same = _paired(trials, fits, margin)
    members = [trial for own in trials.values() for trial in own]
    numbers = {}
    if tuned is not None and tuned.value is not None:
        numbers["difference"] = _quantity(tuned)
    if same is not None and same.value is not None:
        numbers["difference_same_lr"] = _quantity(same)
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="ok" if tuned is not None and tuned.interval is not None else "cannot_tell",
        sentence=_sentence(settings, rows, tuned, lr, same),
        numbers=numbers,
        tables={"growing_batch": tuple(rows)},
        checks=tuple(_checks(context, rows)),
        data={
            "rows": rows,
            "batch_size": growing_batch_size(context),
            "margin": settings.margin,
            "margin_loss": margin,
            "schedule": settings.schedule.label,
            "power": growth_power(context),
            "difference": None if tuned is None else tuned.to_dict(),
            "difference_same_lr": None if same is None else same.to_dict(),
            "same_lr": lr,
            "verdict": None if tuned is None else tuned.verdict,
            "monitor": next((trial.record.monitor for trial in members if trial.record.monitor), None),
            "courses": _courses(context),
        },
        trial_ids=tuple(dict.fromkeys(trial.trial_id for trial in members)),
    )


def _tuned(fits: Mapping[str, LRSliceFit], margin: float) -> Difference | None:
    """Return growing minus decaying, each at its own best LR; None where one of them has none."""
    growing, decaying = fits.get(GROWING), fits.get(DECAYING)
    if growing is None or decaying is None or not (growing.ok and decaying.ok):
        return None
    return minima_difference(growing, decaying, margin)


def _quantity(gap: Difference) -> Quantity:
    lo, hi = bounds(gap.interval)
    return Quantity(value=gap.value, lo=lo, hi=hi)


def _courses(context: Context) -> list[dict[str, Any]]:
    """Return batch size and LR over the examples, of both, as the figure draws them."""
    found = []
    for name, cell in growing_cells(context).items():
        spec = dataclasses.replace(cell.spec(context, ANY_LR, 0), peak_lr=1.0)
        course, schedule = spec.course, spec.lr_schedule
        assert schedule is not None  # the recipe has refused the module's own
        every = max(1, course.steps // 200)
        points = []
        for step in range(0, course.steps, every):
            multiple = course.multiple(step)
            power = 0.0 if spec.batch_schedule is None else 1 / float(spec.batch_schedule.settings["power"])
            factor = schedule.factor(course.edges[step], spec.horizon) * multiple**power
            points.append(
                [course.edges[step] * spec.global_batch_size, step, multiple * spec.global_batch_size, factor]
            )
        found.append({"what": name, "points": points})
    return found


def _sentence(
    settings: GrowingBatchSettings, rows: Sequence[Mapping[str, Any]], tuned: Difference | None, lr: Any, same: Any
) -> str:
    grown = next(row for row in rows if row["what"] == GROWING)
    steps = next(row for row in rows if row["what"] == DECAYING)["steps"]
    if tuned is None or tuned.value is None:
        return (
            "Growing the batch and decaying the LR cannot be compared: one of them has no best LR inside the rates "
            "tried. More seeds, or a longer horizon, would tell."
        )
    lo, hi = bounds(tuned.interval)
    ends = f"{number(abs(tuned.value))} {'above' if tuned.value > 0 else 'below'}"
    sentence = (
        f"Growing the batch in the place of {settings.schedule.label}, up to {grown['largest_batch']:,} examples, ends "
        f"{ends} decaying the LR (difference {number(tuned.value)}, {interval_text(lo, hi)}; {settings.seeds} seeds, "
        f"{grown['examples']:,} examples each, each at its own best LR), in {grown['steps']:,} steps and not {steps:,}"
    )
    verdicts = {
        "equivalent": f"the two are equal within {100 * settings.margin:g} % of the loss",
        "lower": "growing the batch is better",
        "higher": "decaying the LR is better",
        "cannot tell": f"whether they are equal within {100 * settings.margin:g} % the seeds cannot tell",
    }
    sentence += f": {verdicts[tuned.verdict]}"
    if same is not None and same.value is not None:
        lo, hi = bounds(same.interval)
        sentence += (
            f". At the same peak LR of {number(lr)} the difference is {number(same.value)} ({interval_text(lo, hi)})"
        )
    return sentence + "."


def _checks(context: Context, rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    checks = []
    grown, examples = next(row for row in rows if row["what"] == GROWING), context.training_examples
    if examples is not None and grown["largest_batch"] * 10 > examples:
        checks.append(
            Check(
                name="Growing batch: size of the data",
                status="INFO",
                sentence=(
                    f"The batch grows to {grown['largest_batch']:,} of {examples:,} training examples; beyond a tenth "
                    "of them the rule is known to fail (Smith et al. 2018)."
                ),
            )
        )
    checks += [
        Check(
            name=f"Growing batch: peak LR of {row['what']}",
            status="WARNING",
            sentence=f"The runs with {row['what']} have no best LR inside the rates tried.",
            remedy="raise experiments.growing_batch.seeds, or lengthen the horizon",
        )
        for row in rows
        if row["best_lr"] is None
    ]
    return checks


EXPERIMENTS.register(GrowingBatch.key)(GrowingBatch())
