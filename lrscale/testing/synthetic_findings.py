"""Findings of a synthetic study, in the shapes that the experiments write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrscale.laws import (
    OPTIMAL_LR_LAWS,
    FitStatus,
    LRSliceFit,
    OptimalLRFit,
    compare_minima,
    fit_lr_slice,
    fit_optimal_lr,
)
from lrscale.laws.range_test.confirm import confirm
from lrscale.laws.range_test.confirmation import FixedRun
from lrscale.recipe.experiments import RangeTest
from lrscale.schedules import build_schedule
from lrscale.study.finding import Finding, FindingStatus, Quantity
from lrscale.study.fit_residuals import fit_residuals
from lrscale.study.layouts.timed import fit_rows, layout_rows, model_curves, speed_knees
from lrscale.study.noise_rows import GROWTH, seed_noise
from lrscale.study.range_test.answer import RangeAnswer, range_finding
from lrscale.study.range_test.ramps import Ramps

if TYPE_CHECKING:
    from lrscale.store.view import StudyView, Trial
    from lrscale.testing.synthetic import SyntheticStudy


MARGIN = 0.005
"""Relative difference of losses that counts as none."""


def synthetic_findings(view: StudyView, settings: SyntheticStudy) -> tuple[Finding, ...]:
    """Return the findings of the experiments that the study holds."""
    trials = list(view)
    ramps = [trial for trial in trials if trial.spec.schedule.name == "ramp"]
    fixed = [trial for trial in trials if trial.spec.schedule.name != "ramp" and trial.spec.layout is None]
    found = []
    if ramps:
        found.append(_range_test(view, ramps, fixed, settings))
    slices = [trial for trial in fixed if trial.spec.schedule.name == "cosine"]
    if slices:
        found.append(_scaling(slices, settings))
    if settings.schedules:
        found.append(_schedules(fixed, settings))
    if settings.throughput:
        found.append(_throughput([trial for trial in trials if trial.spec.layout is not None]))
    return tuple(found)


def fit_slice(trials: Sequence[Trial]) -> LRSliceFit:
    """Fit one slice to trials; crashed ones are left out, as they say nothing about the loss."""
    kept = [trial for trial in trials if trial.record.status in ("completed", "diverged")]
    return fit_lr_slice(
        [trial.spec.peak_lr for trial in kept],
        [trial.record.final_loss for trial in kept],
        diverged=[trial.record.status == "diverged" for trial in kept],
        seed=[trial.spec.seed for trial in kept],
    )


def _ids(trials: Sequence[Trial]) -> tuple[str, ...]:
    return tuple(trial.trial_id for trial in trials)


def _range_test(view: StudyView, ramps: Sequence[Trial], fixed: Sequence[Trial], settings: SyntheticStudy) -> Finding:
    """Return the finding of the ramps; the trials of the first schedule but cosine confirm them."""
    batch_size = ramps[0].spec.global_batch_size
    curves = [view.load_trajectory(trial.trial_id).points("train_loss", "lr") for trial in ramps]
    own = Ramps(
        batch_size=batch_size, trials=tuple(ramps), curves=tuple((lr, loss) for lr, loss in curves), reason=None
    )
    found = own.finding()
    assert found is not None
    stand_in = next((name for name in settings.schedules if name != "cosine"), None)
    kept = [
        trial
        for trial in fixed
        if trial.spec.schedule.name == stand_in and trial.record.status in ("completed", "diverged")
    ]
    runs = [FixedRun(lr=trial.spec.peak_lr, seed=trial.spec.seed, loss=trial.record.final_loss) for trial in kept]
    sure = None
    if runs and found.status is FitStatus.OK:
        steps = kept[0].spec.horizon
        sure = confirm(found, runs, steps=steps, batch_size=batch_size, warmup_steps=steps // 20, beta2=0.999)
    answer = RangeAnswer(
        ramps=own, found=found, confirmation=sure, trial_ids=_ids(ramps) + (() if sure is None else _ids(kept))
    )
    asked = RangeTest(seeds=settings.range_test_seeds, steps=settings.range_test_steps)
    return range_finding("range_test", "LR range test", [answer], asked, steps=settings.horizon(batch_size))


def _slice_row(batch_size: int, fit: LRSliceFit, trials: int) -> dict[str, Any]:
    plain = fit.to_dict()
    interval, level = plain["interval"] or {}, plain["min_loss_interval"] or {}
    same = plain["equivalence"] or [None, None]
    return {
        "batch_size": batch_size,
        "best_lr": plain["best_lr"],
        "lo": interval.get("lo"),
        "hi": interval.get("hi"),
        "equivalent_lo": same[0],
        "equivalent_hi": same[1],
        "loss": plain["min_loss"],
        "loss_lo": level.get("lo"),
        "loss_hi": level.get("hi"),
        "diverged_above": plain["diverged_above"],
        "trials": trials,
        "status": plain["status"],
    }


def _scaling(trials: Sequence[Trial], settings: SyntheticStudy) -> Finding:
    cells, fits, rows = [], [], []
    for batch_size in settings.batch_sizes:
        members = [trial for trial in trials if trial.spec.global_batch_size == batch_size]
        fit = fit_slice(members)
        fits.append(fit)
        cells.append({"batch_size": batch_size, "slice": fit.to_dict(), "trials": list(_ids(members))})
        rows.append(_slice_row(batch_size, fit, len(members)))
    law = fit_optimal_lr(settings.batch_sizes, fits) if len(settings.batch_sizes) > 1 else None
    noise = seed_noise(cells)
    held = [row for row in rows if row["best_lr"] is not None]
    best = min(held, key=lambda row: float(row["loss"])) if held else None
    status: FindingStatus = "ok" if best else "cannot_tell"
    numbers = {}
    if best:
        numbers = {
            "best_lr": Quantity(value=best["best_lr"], lo=best["lo"], hi=best["hi"]),
            "best_batch_size": Quantity(value=float(best["batch_size"])),
            "loss": Quantity(value=best["loss"], lo=best["loss_lo"], hi=best["loss_hi"]),
        }
    return Finding(
        key="scaling",
        title="LR and batch size",
        status=status,
        sentence=_scaling_sentence(best, settings),
        numbers=numbers,
        tables={"slices": tuple(rows), "laws": tuple(_laws(law)), **noise.tables, **fit_residuals(cells).tables},
        data={
            GROWTH: noise.growth,
            "horizon_examples": settings.horizon_examples,
            "schedule": "cosine",
            "monitor": trials[0].record.monitor,
            "seeds": settings.seeds,
            "cells": cells,
            "law": None if law is None else law.to_dict(),
            "best_batch_size": best["batch_size"] if best else None,
        },
        trial_ids=_ids(trials),
    )


def _scaling_sentence(best: Mapping[str, Any] | None, settings: SyntheticStudy) -> str:
    if best is None:
        return "No batch size has its best LR inside the grid: move the grid or add LRs."
    return (
        f"At batch {best['batch_size']} the best peak LR is {best['best_lr']:.1e} (95 % {best['lo']:.1e} to "
        f"{best['hi']:.1e}, {settings.seeds} seeds, {settings.horizon_examples} examples)."
    )


def _laws(law: OptimalLRFit | None) -> list[dict[str, Any]]:
    if law is None:
        return []
    return [
        {
            "law": row.law,
            "formula": OPTIMAL_LR_LAWS[row.law].formula,
            "aicc": row.aicc,
            "loo": row.loo_error,
            "verdict": row.verdict,
            "parameters": [[name, value, interval.to_dict()] for name, value, interval in row.parameters],
        }
        for row in law.table
    ]


def _schedules(trials: Sequence[Trial], settings: SyntheticStudy) -> Finding:
    reference = settings.batch_sizes[len(settings.batch_sizes) // 2]
    members = [trial for trial in trials if trial.spec.global_batch_size == reference]
    rows, fits = [], {}
    for name in settings.schedules:
        own = [trial for trial in members if trial.spec.schedule.name == name]
        if own:
            fits[name] = fit_slice(own)
            rows.append(_schedule_row(name, fits[name], own[0]))
    held = [row for row in rows if row["loss"] is not None]
    best = min(held, key=lambda row: float(row["loss"])) if held else None
    _compare(rows, fits, margin=MARGIN * abs(best["loss"]) if best else 0.0)
    sentence = "No schedule has its best LR inside the grid."
    if best:
        tied = [row["label"] for row in rows if row["verdict"] == "tied"]
        sentence = (
            f"{best['label']} reaches the lowest loss, {best['loss']:.3f}; tied with it: {', '.join(tied) or 'none'}."
        )
    return Finding(
        key="schedules",
        title="Schedules",
        status="ok" if best else "cannot_tell",
        sentence=sentence,
        data={
            "batch_size": reference,
            "horizon_examples": settings.horizon_examples,
            "monitor": members[0].record.monitor if members else "loss",
            "margin": MARGIN,
            "schedules": rows,
        },
        trial_ids=_ids(members),
    )


def _schedule_row(name: str, fit: LRSliceFit, trial: Trial) -> dict[str, Any]:
    plain = fit.to_dict()
    interval, level = plain["interval"] or {}, plain["min_loss_interval"] or {}
    schedule = build_schedule(name, warmup_steps=trial.spec.schedule.warmup_steps)
    steps = trial.spec.horizon
    return {
        "name": name,
        "label": trial.spec.schedule.label,
        "slice": plain,
        "shape": [[k / 60, schedule.factor(min(steps - 1, k * steps // 60), steps)] for k in range(61)],
        "best_lr": plain["best_lr"],
        "lr_lo": interval.get("lo"),
        "lr_hi": interval.get("hi"),
        "loss": plain["min_loss"],
        "loss_lo": level.get("lo"),
        "loss_hi": level.get("hi"),
    }


def _compare(rows: Sequence[dict[str, Any]], fits: Mapping[str, LRSliceFit], *, margin: float) -> None:
    for ranked in compare_minima(fits, margin=margin).rows:
        row = next(row for row in rows if row["name"] == ranked.name)
        gap = ranked.gap
        interval = gap.interval if gap is not None else None
        row |= {
            "difference": 0.0 if ranked.leads else gap.value if gap is not None else None,
            "difference_lo": 0.0 if ranked.leads else interval.lo if interval is not None else None,
            "difference_hi": 0.0 if ranked.leads else interval.hi if interval is not None else None,
            "verdict": ranked.verdict,
        }


def _throughput(trials: Sequence[Trial]) -> Finding:
    rows = layout_rows(trials)
    fit = fit_rows(rows)
    best = max(rows, key=lambda row: float(row["examples_per_second"]))
    return Finding(
        key="throughput",
        title="Throughput",
        status="ok",
        sentence=(
            f"The fastest layout trains {best['examples_per_second']:.0f} examples a second: "
            f"{best['per_device_batch_size']} "
            f"per device x {best['devices']} devices."
        ),
        data={
            "rows": list(rows),
            "knees": [{"ranks": ranks, **knee.to_dict()} for ranks, knee in speed_knees(rows, 0.9).items()],
            "law": fit.to_dict(),
            "curves": model_curves(rows, fit),
        },
        trial_ids=_ids(trials),
    )
