"""From a table of steps to a target to the critical batch size of every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from lrscale.errors import LrscaleError
from lrscale.laws.steps import StepsFit, fit_steps_to_target
from lrscale.sweep.cells import (
    DIVERGED,
    LOST,
    complaint,
    duplicates,
    implausible,
    numbers_in,
    rows_text,
    seed_labels,
    status_words,
)
from lrscale.sweep.clean import BATCH_UNITS, BatchUnit
from lrscale.sweep.columns import ColumnMap, map_columns
from lrscale.sweep.groups import Group, split_rows
from lrscale.sweep.read import SweepTable
from lrscale.sweep.result import LawTableFit, Source

if TYPE_CHECKING:
    import pandas as pd

_FEWEST_LRS = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepsGroup:
    """The answer of one group: steps against batch size."""

    label: str
    key: Mapping[str, Any]
    """Column of ``--by`` to its value."""
    fit: StepsFit
    seeds: int
    """Distinct seeds; 0 where there are none."""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the critical batch size has an interval on both sides."""
        return self.fit.ok

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        return {
            "label": self.label,
            "key": dict(self.key),
            "fit": self.fit.to_dict(),
            "seeds": self.seeds,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StepsGroup:
        """Rebuild what `to_dict` wrote."""
        return cls(**{**data, "fit": StepsFit.from_dict(data["fit"]), "notes": tuple(data["notes"])})


StepsTableFit: TypeAlias = LawTableFit[StepsGroup]
"""Everything that `lrscale fit` found in a table of steps to a target."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    frame: pd.DataFrame
    batch: npt.NDArray[np.float64]
    steps: npt.NDArray[np.float64]
    """To the target, or trained without reaching it."""
    censored: npt.NDArray[np.bool_]
    lr: npt.NDArray[np.float64] | None
    seed: npt.NDArray[np.object_]
    notes: tuple[str, ...] = field(default=())


def analyse_steps_table(
    table: SweepTable,
    *,
    columns: Mapping[str, str] | None = None,
    by: Sequence[str] = (),
    batch_unit: BatchUnit | None = None,
    drop_bad: bool = False,
    reference_batch: float | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
) -> StepsTableFit:
    """Fit the steps to a target against the batch size, group by group.

    A run that did not reach the target has no steps to it (an empty cell, NaN or infinity); with a column of the steps
    that it trained it enters as a one-sided term, without one it is left out, which is said. With a column of LRs, each
    batch size is represented by the LR that got there in the fewest steps.

    Parameters
    ----------
    table : SweepTable
        One row a run.
    columns : mapping of str to str, optional
        Role (``batch``, ``steps_to_target``, ``steps``, ``lr``, ``seed``, ``status``, ``target``) to column; the others
        are guessed, and every guess is said.
    by : sequence of str, optional
        Columns, or roles, whose values separate groups. Default: none.
    batch_unit : {"examples", "sequences", "tokens"} or None, optional
        What the batch size counts. Default None: not known; numbers are then called examples, which is said.
    drop_bad : bool, optional
        Whether to leave out rows that hold no positive batch size or steps instead of refusing. Default False.
    reference_batch : float or None, optional
        Batch size from which the 20 % definition of the critical batch counts. Default None: the smallest.
    confidence : float, optional
        Of all intervals. Default 0.95.
    resamples : int, optional
        Draws of every interval. Default 1000.
    random_seed : int, optional
        Default 0.

    Raises
    ------
    LrscaleError
        For a table that cannot be used as it is; the message names the line and the remedy.
    """
    if batch_unit is not None and batch_unit not in BATCH_UNITS:
        raise LrscaleError(f"unknown batch unit {batch_unit}", hint=f"use {', '.join(BATCH_UNITS)}")
    mapped = map_columns(table.frame, columns, kind="steps")
    known = [str(name) for name in table.frame.columns]
    separate = tuple(dict.fromkeys(mapped.resolve(name, known) for name in by))
    for role in ("batch", "steps_to_target", "lr", "seed", "steps"):
        if role in mapped and mapped[role] in separate:
            raise LrscaleError(
                f"--by names {mapped[role]}, which holds the {role.replace('_', ' ')}",
                hint="a group holds several values of it",
            )
    rows = _clean(table, mapped, drop_bad)
    groups = split_rows(rows.frame, separate, np.lexsort((rows.steps, rows.batch)))
    settings: dict[str, Any] = {
        "reference_batch": reference_batch,
        "confidence": confidence,
        "resamples": resamples,
        "random_seed": random_seed,
    }
    return LawTableFit(
        kind="steps",
        source=Source(
            file=table.path.name,
            format=table.format,
            sha256=table.sha256,
            n_rows=len(table.frame),
            n_runs=int(rows.batch.size),
            n_diverged=0,
            columns=dict(mapped.names),
            guessed=mapped.guessed,
            by=separate,
            batch_unit=batch_unit,
            notes=rows.notes,
            tolerance=0.0,
        ),
        warnings=_warnings(rows, mapped, groups),
        groups=tuple(_fit_group(rows, group, batch_unit or "examples", settings) for group in groups),
        confidence=confidence,
    )


def _clean(table: SweepTable, columns: ColumnMap, drop_bad: bool) -> _Rows:
    raw, notes = table.frame, []
    keep = np.ones(len(raw), dtype=bool)
    same = duplicates(raw)
    if same.any():
        keep &= ~same
        notes.append(f"{rows_text(int(same.sum()))} dropped as exact duplicates of earlier ones.")
    if "status" in columns:
        status = status_words(raw[columns["status"]])
        gone = status.isin(LOST | DIVERGED).to_numpy() & keep
        if gone.any():
            keep &= ~gone
            notes.append(f"{rows_text(int(gone.sum()))} left out by their status: they say nothing about the steps.")
    batch, steps = numbers_in(raw[columns["batch"]]), numbers_in(raw[columns["steps_to_target"]])
    text = raw[columns["steps_to_target"]].astype(object).where(raw[columns["steps_to_target"]].notna(), "")
    empty = text.astype(str).str.strip().str.lower().isin({"", "nan", "none", "null", "inf", "infinity", "na", "-"})
    short = ~np.isfinite(steps) & (empty.to_numpy() | np.isinf(steps))
    trained = numbers_in(raw[columns["steps"]]) if "steps" in columns else np.full(len(raw), np.nan)
    bad = np.zeros(len(raw), dtype=bool)
    told = []
    for role, refused in (("batch", implausible(batch)), ("steps_to_target", ~short & ~(steps > 0))):
        wrong = refused & keep
        if wrong.any():
            told.append(complaint(role, columns[role], table.place, table.lines[wrong], raw[columns[role]][wrong]))
            bad |= wrong
    if told and not drop_bad:
        raise LrscaleError(
            f"{table.path.name}: {'; '.join(told)}",
            hint=f"mend or remove them, or leave {rows_text(int(bad.sum()))} out with --drop-bad",
        )
    if told:
        keep &= ~bad
        notes.append(f"{rows_text(int(bad.sum()))} dropped: {'; '.join(told)}.")
    unknown = short & keep & ~(np.isfinite(trained) & (trained > 0))
    if unknown.any():
        keep &= ~unknown
        notes.append(
            f"{rows_text(int(unknown.sum()))} left out: they did not reach the target, and how many steps they trained "
            "is not known (--steps)."
        )
    if not keep.any():
        raise LrscaleError(f"{table.path.name}: none of the {len(raw):,} rows is left", hint=" ".join(notes) or None)
    lr = numbers_in(raw[columns["lr"]])[keep] if "lr" in columns else None
    if lr is not None and not np.all(np.isfinite(lr) & (lr > 0)):
        notes.append(f"Column {columns['lr']} (lr) is not used: not every row holds a positive LR.")
        lr = None
    seeds = seed_labels(raw[columns["seed"]])[keep] if "seed" in columns else np.full(int(keep.sum()), None, object)
    return _Rows(
        frame=raw[keep].reset_index(drop=True),
        batch=batch[keep],
        steps=np.where(short, trained, steps)[keep],
        censored=short[keep],
        lr=lr,
        seed=seeds,
        notes=tuple(notes),
    )


def _fit_group(rows: _Rows, group: Group, unit: BatchUnit, settings: Mapping[str, Any]) -> StepsGroup:
    own, notes = group.rows, list[str]()
    if rows.lr is not None:
        own, notes = _at_best_lr(rows, own, rows.lr)
    seeds = rows.seed[own].tolist()
    fit = fit_steps_to_target(
        rows.batch[own],
        rows.steps[own],
        censored=rows.censored[own],
        seed=seeds if all(seed is not None for seed in seeds) else None,
        batch_unit=unit,
        **settings,
    )
    return StepsGroup(
        label=group.label,
        key=dict(group.key),
        fit=fit,
        seeds=len({seed for seed in seeds if seed is not None}),
        notes=tuple(notes),
    )


def _at_best_lr(
    rows: _Rows, own: npt.NDArray[np.int64], lr: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the rows at the LR of each batch size that needs the fewest steps (median; not reached counts last)."""
    kept, edges, tried = [], [], 1
    for size in np.unique(rows.batch[own]):
        here = own[rows.batch[own] == size]
        rates = np.unique(lr[here])
        tried = max(tried, rates.size)
        effort = [
            float(np.median(np.where(rows.censored[here], np.inf, rows.steps[here])[lr[here] == one])) for one in rates
        ]
        best = int(np.argmin(effort))
        kept.append(here[lr[here] == rates[best]])
        if rates.size >= _FEWEST_LRS and best in (0, rates.size - 1):
            edges.append(f"{size:g}")
    notes = [f"Each batch size stands for its best of up to {tried} LRs."] if tried > 1 else []
    if edges:
        notes.append(
            f"At batch {', '.join(edges)} the best LR is the smallest or largest tried: fewer steps may be possible."
        )
    return np.concatenate(kept), notes


def _warnings(rows: _Rows, columns: ColumnMap, groups: Sequence[Group]) -> tuple[str, ...]:
    found = []
    if "target" in columns and not any(columns["target"] in group.key for group in groups):
        targets = rows.frame[columns["target"]].astype(str)
        most = max(int(targets.iloc[group.rows].nunique()) for group in groups)
        if most > 1:
            found.append(
                f"Column {columns['target']} takes {most:,} values inside a group, and steps to different targets make "
                f"no curve: add {columns['target']} to --by."
            )
    return tuple(found)
