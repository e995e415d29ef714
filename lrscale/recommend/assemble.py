"""The parts of a recommendation that follow from the chosen setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrscale.errors import LayoutError
from lrscale.recipe import Recipe
from lrscale.recommend.batch import excess
from lrscale.recommend.layout import layout_for
from lrscale.recommend.measured import Cell, Speeds
from lrscale.recommend.recommendation import Alternative, Confidence, Evidence, Validity
from lrscale.recommend.transfer import HorizonVerdict
from lrscale.recommend.words import count, rate
from lrscale.store import StudyView, Trial
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.units import Layout

SHAPING = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm")
"""Arguments of a Trainer without which a job is not the one that was calibrated."""

FEW_SEEDS = 3
"""Seeds below which the spread between runs is hardly known."""

FEW_STEPS = 20
"""Steps below which a job is refused where every trial had more: the usual warm-up of 5 % is then less than a step, and
stability binds the LR and not noise, of which the laws of the best LR against the batch size speak."""

WIDE_RATIO = 3.0
"""Upper over lower end of the LR's interval from which on it is called wide: half a decade."""


def expected_seconds(speeds: Speeds, layout: Layout, steps: int) -> Quantity | None:
    """Return the training time of a job without validation, or None where no speed was measured."""
    speed, ends = speeds.examples_per_second(layout), speeds.interval(layout)
    if speed is None:
        return None
    examples = steps * layout.global_batch_size
    lo, hi = (None, None) if ends is None else (examples / ends[1], examples / ends[0])
    return Quantity(value=examples / speed, lo=lo, hi=hi, unit="s")


def validity(
    recipe: Recipe,
    view: StudyView,
    cells: Sequence[Cell],
    cell: Cell,
    horizon_examples: int,
    findings: Sequence[Finding],
) -> Validity:
    """Return what was measured."""
    trials = _trials(view, findings)
    done = [trial for trial in trials if trial.record.status == "completed"]
    here = [trial.spec.peak_lr for trial in done if trial.spec.global_batch_size == cell.batch_size]
    lrs = here or [trial.spec.peak_lr for trial in done] or list(cell.equivalent_lr)
    names = dict.fromkeys(name for trial in done for name in trial.record.facts.get("optimizers", ()))
    precision = recipe.task.trainer.get("precision")
    if precision is None and recipe.task.config is None:
        precision = "32-true"
    return Validity(
        batch_sizes=(min(one.batch_size for one in cells), max(one.batch_size for one in cells)),
        learning_rates=(min(lrs), max(lrs)),
        horizon_examples=horizon_examples,
        diverges_above=cell.diverged_above,
        precision=None if precision is None else str(precision),
        optimizers=tuple(names),
    )


def shaping(recipe: Recipe) -> dict[str, Any]:
    """Return what of the recipe's Trainer shapes training, whose loss is what a job is promised."""
    return {name: recipe.task.trainer[name] for name in SHAPING if recipe.task.trainer.get(name) is not None}


def batch_size_home(view: StudyView, findings: Sequence[Finding]) -> str | None:
    """Return where the trials set the per-device batch size, where all say the same."""
    homes = {str(trial.record.facts.get("batch_size_home") or "") for trial in _trials(view, findings)}
    return homes.pop() or None if len(homes) == 1 else None


def evidence(view: StudyView, findings: Sequence[Finding]) -> Evidence:
    """Return what a recommendation stands on."""
    trials = _trials(view, findings)
    ids = dict.fromkeys(trial_id for finding in findings for trial_id in finding.trial_ids)
    ranks = {trial.record.layout.world_size for trial in trials if trial.record.layout is not None}
    devices = dict.fromkeys(
        str(trial.record.environment["device"]) for trial in trials if trial.record.environment.get("device")
    )
    many = f"{min(ranks)} x " if len(ranks) == 1 and min(ranks) > 1 else ""
    return Evidence(
        trials=len(ids),
        seeds=len({trial.spec.seed for trial in trials}),
        devices=tuple(f"{many}{name}" for name in devices),
        experiments=tuple(finding.key for finding in findings),
    )


def alternatives(
    recipe: Recipe, cells: Sequence[Cell], chosen: Cell, layout: Layout, speeds: Speeds
) -> tuple[Alternative, ...]:
    """Return the other measured batch sizes, the nearest in loss first; times are at the same number of examples."""
    speed = speeds.examples_per_second(layout)
    found = []
    for cell in cells:
        if cell.batch_size == chosen.batch_size or cell.lr.value is None or cell.loss.value is None:
            continue
        try:
            split, _ = layout_for(recipe, cell.batch_size, speeds)
        except LayoutError:
            continue
        other = speeds.examples_per_second(split)
        found.append(
            Alternative(
                batch_size=cell.batch_size,
                lr=cell.lr.value,
                loss=cell.loss.value,
                relative_loss=None if chosen.loss.value is None else excess(cell, chosen),
                relative_seconds=None if speed is None or other is None else speed / other - 1,
            )
        )
    return tuple(sorted(found, key=lambda one: one.loss))


def checks(
    recipe: Recipe,
    cell: Cell,
    batch_confidence: Confidence,
    horizon: HorizonVerdict | None,
    view: StudyView,
    findings: Sequence[Finding],
) -> tuple[Check, ...]:
    """Return what a reader should look at before relying on the setting."""
    seeds = len({trial.spec.seed for trial in _trials(view, findings)})
    source = "search" if any(finding.key == "search" for finding in findings) else "scaling"
    measured = batch_confidence == "measured"
    size = count(cell.batch_size)
    found = [
        Check(
            name="batch measured",
            status="PASS" if measured else "WARNING",
            sentence=f"Batch {size} was {'measured' if measured else batch_confidence}.",
            remedy=None if measured else f"add {cell.batch_size} to experiments.scaling.batch_sizes",
        ),
        Check(
            name="horizon calibrated",
            status="PASS" if horizon is None else "FAIL" if horizon.confidence == "cannot tell" else "WARNING",
            sentence="The trials were as long as the job." if horizon is None else horizon.reason,
            remedy=None if horizon is None else f"raise experiments.{source}.horizon towards the job's length",
        ),
        _width(cell, recipe, source),
        Check(
            name="seeds",
            status="PASS" if seeds >= FEW_SEEDS else "WARNING",
            sentence=f"It stands on {seeds} seed{'s' if seeds != 1 else ''}.",
            remedy=None if seeds >= FEW_SEEDS else f"--set {_seeds_of(source)}={FEW_SEEDS}",
        ),
    ]
    margin = None if cell.diverged_above is None or not cell.lr.value else cell.diverged_above / cell.lr.value
    if margin is not None:
        found.append(
            Check(
                name="margin to divergence",
                status="PASS" if margin >= 2 else "WARNING",
                sentence=f"Training diverged from LR {rate(float(cell.diverged_above or 0))} on, {margin:.2g} x above.",
                remedy=None if margin >= 2 else f"start with the low end of the equivalent range, {_low(cell)}",
            )
        )
    return tuple(found)


def _seeds_of(source: str) -> str:
    return "experiments.search.confirm.seeds" if source == "search" else f"experiments.{source}.seeds"


def _width(cell: Cell, recipe: Recipe, source: str) -> Check:
    lo, hi = cell.lr.lo, cell.lr.hi
    ratio = hi / lo if lo and hi else float("inf")
    seeds = 5 if recipe.experiments.scaling is None else recipe.experiments.scaling.seeds + 2
    more = f"--set experiments.scaling.seeds={seeds}" if source == "scaling" else "raise experiments.search.trials"
    return Check(
        name="LR interval",
        status="PASS" if ratio <= WIDE_RATIO else "WARNING",
        sentence=f"The interval of the LR spans a factor of {ratio:.2g}.",
        remedy=None if ratio <= WIDE_RATIO else more,
    )


def _low(cell: Cell) -> str:
    return rate(cell.equivalent_lr[0])


def fewest_steps(view: StudyView, findings: Sequence[Finding]) -> int | None:
    """Return the steps of the shortest trial that completed, or None where none is known."""
    done = [trial for trial in _trials(view, findings) if trial.record.status == "completed"]
    return min((trial.record.steps for trial in done), default=None)


def _trials(view: StudyView, findings: Sequence[Finding]) -> list[Trial]:
    ids = dict.fromkeys(trial_id for finding in findings for trial_id in finding.trial_ids)
    return [view.trials[trial_id] for trial_id in ids if trial_id in view.trials]
