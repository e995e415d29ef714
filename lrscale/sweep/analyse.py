"""From a table of finished runs to the laws of every group, and the laws across them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.laws import FitStatus, LRSliceFit, OptimalLRFit, fit_optimal_lr
from lrscale.study.finding import Check, Finding
from lrscale.study.lr_answer import answer_numbers, answer_sentence, best_batch, law_rows, slice_rows
from lrscale.sweep.clean import BatchUnit, CleanRuns, clean
from lrscale.sweep.columns import ColumnMap, map_columns
from lrscale.sweep.groups import Group, group_runs, has_unseeded_replicates, mixed_within
from lrscale.sweep.holdout import Miss, hold_out_largest_batch
from lrscale.sweep.read import SweepTable, read_table
from lrscale.sweep.result import GroupFit, Source, SweepFit
from lrscale.sweep.scale import ScaleCell, fit_scale
from lrscale.sweep.slices import GroupSlices, SliceRuns, fit_slices, listed, surface_law

HOLDOUTS = ("largest",)
_INDEPENDENT = "Runs at the same LR and batch size have no seed, and are taken as independent."
MOST_GROUPS = 500
"""Groups of one fit; more mean that a column of ``--by`` holds names of runs."""
MOST_BATCHES = 200
"""Batch sizes of one group; more mean that another column was taken for the batch size."""


def analyse_table(
    path: Path | SweepTable,
    *,
    columns: Mapping[str, str] | None = None,
    by: Sequence[str] = (),
    batch_unit: BatchUnit | None = None,
    drop_bad: bool = False,
    holdout: str | None = None,
    tolerance: float = 1e-3,
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
) -> tuple[SweepFit, CleanRuns]:
    """Read a table of runs and fit what it can answer.

    Parameters
    ----------
    path : Path or SweepTable
        CSV, TSV, JSON lines or Parquet, gzipped or not; one row a run.
    columns : mapping of str to str, optional
        Role (``lr``, ``batch``, ``loss``, ``seed``, ...) to column; the others are guessed, and every guess is said.
    by : sequence of str, optional
        Columns, or roles, whose values separate groups. Default: none.
    batch_unit : {"examples", "sequences", "tokens"} or None, optional
        What the batch size counts. Default None: not known, and not guessed.
    drop_bad : bool, optional
        Whether to leave out rows that hold no positive LR or batch size instead of refusing the table. Default False.
    holdout : {"largest"} or None, optional
        Fit also without the largest batch size of each group, and without the largest groups, and report the miss.
    tolerance : float, optional
        LRs whose loss is within this fraction of the minimum count as equal. Default 1e-3.
    confidence : float, optional
        Of all intervals. Default 0.95.
    resamples : int, optional
        Draws of every interval, at least 100. Default 1000.
    random_seed : int, optional
        Seed of the draws; the answer is repeatable. Default 0.

    Returns
    -------
    fit : SweepFit
        What was found, or why nothing could be.
    runs : CleanRuns
        The runs that it stands on.

    Raises
    ------
    LrscaleError
        For a table that cannot be used as it is; the message names the line and the remedy.
    """
    if holdout is not None and holdout not in HOLDOUTS:
        raise LrscaleError(f"unknown holdout {holdout}", hint=did_you_mean(holdout, HOLDOUTS))
    if not 0 <= tolerance < 1:
        raise LrscaleError(f"tolerance {tolerance} is not a fraction in [0, 1)", hint="use for example 0.001")
    if not 0 < confidence < 1:
        raise LrscaleError(f"confidence {confidence} is not between 0 and 1", hint="use a fraction such as 0.95")
    table = path if isinstance(path, SweepTable) else read_table(path)
    mapped = map_columns(table.frame, columns)
    known = [str(name) for name in table.frame.columns]
    separate = tuple(dict.fromkeys(mapped.resolve(name, known) for name in by))
    for role in ("lr", "batch", "loss", "seed"):
        if role in mapped and mapped[role] in separate:
            raise LrscaleError(
                f"--by names {mapped[role]}, which holds the {role}", hint="a group holds several values of it"
            )
    runs = clean(table, mapped, batch_unit=batch_unit, drop_bad=drop_bad)
    groups = group_runs(runs, separate)
    if len(groups) > MOST_GROUPS:
        raise LrscaleError(
            f"--by {','.join(separate)} makes {len(groups):,} groups; at most {MOST_GROUPS} are fitted",
            hint="separate by columns with few values",
        )
    unseeded = has_unseeded_replicates(runs, groups)
    settings: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "random_seed": random_seed}
    fitted = tuple(_fit_group(runs, group, mapped, tolerance, holdout, settings) for group in groups)
    scale = None
    if len(groups) > 1:
        cells = [ScaleCell(label=one.label, scale=one.scale, fits=one.slices) for one in fitted]
        scale = fit_scale(cells, **settings, holdout=holdout is not None)
    fit = SweepFit(
        source=_source(table, mapped, separate, runs, tolerance, (_INDEPENDENT,) if unseeded else ()),
        warnings=(*runs.warnings, *mixed_within(runs, mapped, groups)),
        groups=fitted,
        scale=scale,
        confidence=confidence,
    )
    return fit, runs


def _fit_group(
    runs: CleanRuns,
    group: Group,
    columns: ColumnMap,
    tolerance: float,
    holdout: str | None,
    settings: Mapping[str, Any],
) -> GroupFit:
    rows = group.rows
    sizes = np.unique(runs.batch[rows])
    if sizes.size > MOST_BATCHES:
        raise LrscaleError(
            f"column {columns['batch']} has {sizes.size:,} batch sizes in {group.label}; at most {MOST_BATCHES} are "
            "fitted",
            hint="is it the batch size? name the right column with --batch",
        )
    slices = {}
    for size in sizes.tolist():
        own = rows[runs.batch[rows] == size]
        slices[size] = SliceRuns(lr=runs.lr[own], loss=runs.loss[own], seed=tuple(runs.seed[own].tolist()))
    found = fit_slices(slices, tolerance=tolerance, **settings)
    # A slice that the surface placed has no draws of its own to enter a law through the optima.
    law = fit_optimal_lr(list(found.fits), list(found.fits.values()), **settings)
    if not law.ok and found.surface is not None:
        law = surface_law(found.surface)
    miss: Miss | str | None = None
    if holdout is not None:
        alone = {size: fit for size, fit in found.fits.items() if fit.vertex_draws}
        miss = hold_out_largest_batch(alone, **settings)
    scale = {}
    for role, values in runs.scale.items():
        if role != "steps" and np.unique(values[rows]).size == 1:
            scale[role] = float(values[rows][0])
    return GroupFit(
        label=group.label,
        key=dict(group.key),
        finding=_finding(runs, group, columns, slices, found, law),
        scale=scale,
        best_run=_best_run(runs, rows),
        n_runs=int(rows.size),
        n_diverged=int(runs.diverged[rows].sum()),
        surface=found.surface,
        holdout=miss,
        notes=found.notes,
    )


def _finding(
    runs: CleanRuns,
    group: Group,
    columns: ColumnMap,
    slices: Mapping[float, SliceRuns],
    found: GroupSlices,
    law: OptimalLRFit,
) -> Finding:
    rows = group.rows
    fits = {_whole(size): fit for size, fit in found.fits.items()}
    counts = {_whole(size): own.lr.size for size, own in slices.items()}
    seeds = {seed for seed in runs.seed[rows].tolist() if seed is not None}
    scope = f"{rows.size:,} runs" + (f", {len(seeds):,} seeds" if len(seeds) > 1 else "")
    best = best_batch(fits)
    data: dict[str, Any] = {
        "monitor": columns["loss"],
        "batch_label": runs.unit_words,
        "seeds": len(seeds) or None,
        "cells": [{"batch_size": size, "slice": fit.to_dict(), "trials": []} for size, fit in fits.items()],
        "law": law.to_dict(),
        "best_batch_size": best,
    }
    return Finding(
        key="scaling",
        title="Learning rate and batch size",
        status="ok" if best is not None else "cannot_tell",
        sentence=answer_sentence(fits, law, scope=scope),
        numbers=answer_numbers(fits, law, unit=runs.batch_unit or ""),
        tables={"slices": slice_rows(fits, counts), "laws": law_rows(law)},
        checks=_checks(group, fits),
        data=data,
    )


def _checks(group: Group, fits: Mapping[float, LRSliceFit]) -> tuple[Check, ...]:
    where = f" of {group.label}" if group.key else ""
    inside = [size for size, fit in fits.items() if fit.best_lr is not None]
    checks = []
    if inside:
        told = f"The optimum lies inside the LRs at {len(inside)} of {len(fits)} batch sizes{where}."
        checks.append(Check(name=f"optima inside{where}", status="PASS", sentence=told))
    for status in FitStatus:
        sizes = [size for size, fit in fits.items() if fit.best_lr is None and fit.status is status]
        if sizes:
            named = listed(sizes)
            checks.append(
                Check(
                    name=f"optimum at batch {named}{where}",
                    status="WARNING",
                    sentence=fits[sizes[0]].reason,
                    remedy=_REMEDIES[status],
                )
            )
    return tuple(checks)


_REMEDIES = {
    FitStatus.OK: None,
    FitStatus.CENSORED_LOW: "add runs at lower LRs",
    FitStatus.CENSORED_HIGH: "add runs at higher LRs",
    FitStatus.TOO_FEW_POINTS: "add runs at other LRs: a slice needs four LRs",
    FitStatus.NOT_IDENTIFIABLE: "add seeds or train longer: the noise hides the optimum",
    FitStatus.POOR_FIT: "look for runs that differ in more than LR, batch size and seed, and give --by",
    FitStatus.ALL_DIVERGED: "add runs at lower LRs",
}


def _best_run(runs: CleanRuns, rows: Any) -> Mapping[str, float] | None:
    """Return the (LR, batch size) with the lowest mean loss, diverged replicates excluding it."""
    cells: dict[tuple[float, float], list[float]] = {}
    for lr, batch, loss in zip(
        runs.lr[rows].tolist(), runs.batch[rows].tolist(), runs.loss[rows].tolist(), strict=True
    ):
        cells.setdefault((batch, lr), []).append(loss)
    means = {cell: float(np.mean(losses)) for cell, losses in cells.items()}
    held = {cell: mean for cell, mean in means.items() if np.isfinite(mean)}
    if not held:
        return None
    batch, lr = min(held, key=lambda cell: held[cell])
    return {"lr": lr, "batch": batch, "loss": held[batch, lr]}


def _whole(size: float) -> float:
    """Return a whole number as int, so that it is written without a point."""
    return int(size) if float(size).is_integer() else size


def _source(
    table: SweepTable,
    columns: ColumnMap,
    by: Sequence[str],
    runs: CleanRuns,
    tolerance: float,
    notes: Sequence[str],
) -> Source:
    return Source(
        file=table.path.name,
        format=table.format,
        sha256=table.sha256,
        n_rows=runs.n_read,
        n_runs=int(runs.lr.size),
        n_diverged=int(runs.diverged.sum()),
        columns=dict(columns.names),
        guessed=columns.guessed,
        by=tuple(by),
        batch_unit=runs.batch_unit,
        notes=(*runs.notes, *notes),
        tolerance=tolerance,
    )
