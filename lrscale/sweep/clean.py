"""From cells to numbers: what counts as diverged, what is refused, and what is dropped aloud."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np
import numpy.typing as npt

from lrscale.errors import LrscaleError
from lrscale.sweep.cells import (
    COMPLETED,
    DIVERGED,
    LOST,
    NAMED,
    complaint,
    duplicates,
    implausible,
    named_lines,
    numbers_in,
    rows_text,
    seed_labels,
    status_words,
)
from lrscale.sweep.columns import ColumnMap
from lrscale.sweep.read import SweepTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

BatchUnit = Literal["examples", "sequences", "tokens"]
SCALE_ROLES = ("params", "tokens", "examples", "steps")
"""What a table may say about the scale of a run."""
BATCH_UNITS: tuple[BatchUnit, ...] = ("examples", "sequences", "tokens")

_NO_LOSS = {"", "nan", "none", "null", "na", "n/a", "-", "diverged", "inf", "-inf", "+inf", "infinity", "-infinity"}
# Between examples and tokens lies a sequence length, which is hardly ever below this.
_SEQUENCE = 100.0
# A loss of this size is an overflow on its way.
_HUGE = 1e30


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRuns:
    """The runs of a table as numbers, with what was left out and why."""

    frame: pd.DataFrame
    """The rows that are left, with the cells of the file; indexed from 0."""
    lr: npt.NDArray[np.float64]
    """Peak LRs, positive, shape (n,)."""
    batch: npt.NDArray[np.float64]
    """Batch sizes, positive, shape (n,)."""
    loss: npt.NDArray[np.float64]
    """Final losses, NaN where the run diverged, shape (n,)."""
    seed: npt.NDArray[np.object_]
    """Seeds, None where there is none, shape (n,)."""
    line: npt.NDArray[np.int64]
    """Line of the file, shape (n,)."""
    scale: Mapping[str, npt.NDArray[np.float64]]
    """``params``, ``tokens``, ``examples`` and ``steps``, where every row has them, positive, shape (n,)."""
    batch_unit: BatchUnit | None
    """Unit of the batch size; None when it was not given."""
    notes: tuple[str, ...]
    """What was dropped, and what was taken how, as sentences."""
    warnings: tuple[str, ...]
    """What a reader should look into, as sentences."""
    n_read: int
    """Rows of the file."""

    @property
    def diverged(self) -> npt.NDArray[np.bool_]:
        """Which runs diverged, shape (n,)."""
        return np.isnan(self.loss)

    @property
    def unit_words(self) -> str:
        """What a batch size is counted in, for labels: ``"batch (tokens)"``, or ``"batch"`` without a unit."""
        return "batch" if self.batch_unit is None else f"batch ({self.batch_unit})"


def clean(
    table: SweepTable,
    columns: ColumnMap,
    *,
    batch_unit: BatchUnit | None = None,
    drop_bad: bool = False,
) -> CleanRuns:
    """Turn a table's cells into numbers.

    A missing, NaN or infinite loss, and the status diverged, mean that the run diverged. Runs that crashed or did not
    finish are left out. Exact duplicates of a row are dropped.

    Parameters
    ----------
    table : SweepTable
    columns : ColumnMap
    batch_unit : {"examples", "sequences", "tokens"} or None, optional
        What the batch column counts. Default None: not known, and not guessed.
    drop_bad : bool, optional
        Whether to leave out rows whose learning rate, batch size or loss is no number or not positive, instead of
        refusing the table. Default False.

    Raises
    ------
    LrscaleError
        For such rows, naming their lines; when no row is left; for an unknown unit.
    """
    if batch_unit is not None and batch_unit not in BATCH_UNITS:
        raise LrscaleError(f"unknown batch unit {batch_unit}", hint=f"use {', '.join(BATCH_UNITS)}")
    notes: list[str] = []
    raw = table.frame
    place = table.place
    keep = np.ones(len(raw), dtype=bool)
    same = duplicates(raw)
    if same.any():
        keep &= ~same
        notes.append(
            f"{rows_text(int(same.sum()))} dropped as exact duplicates of earlier ones ({place} "
            f"{named_lines(table.lines[same])})."
        )
    status = status_words(raw[columns["status"]]) if "status" in columns else None
    if status is not None:
        lost = status.isin(LOST).to_numpy() & keep
        if lost.any():
            keep &= ~lost
            words = ", ".join(f"{number} {word}" for word, number in Counter(status[lost]).most_common())
            notes.append(
                f"{rows_text(int(lost.sum()))} left out by their status, which says nothing about the LR: {words}."
            )
        strange = sorted(set(status[keep]) - COMPLETED - DIVERGED - LOST - {""})
        if strange:
            notes.append(f"The status {', '.join(strange[:NAMED])} is not known; such rows are taken by their loss.")
    lr, batch = numbers_in(raw[columns["lr"]]), numbers_in(raw[columns["batch"]])
    loss, unreadable = _losses(raw[columns["loss"]])
    bad = np.zeros(len(raw), dtype=bool)
    complaints = []
    for role, refused, cells in (
        ("lr", implausible(lr), raw[columns["lr"]]),
        ("batch", implausible(batch), raw[columns["batch"]]),
        ("loss", unreadable, raw[columns["loss"]]),
    ):
        wrong = refused & keep
        if wrong.any():
            complaints.append(complaint(role, columns[role], place, table.lines[wrong], cells[wrong]))
            bad |= wrong
    if complaints and not drop_bad:
        raise LrscaleError(
            f"{table.path.name}: {'; '.join(complaints)}",
            hint=f"mend or remove {'it' if bad.sum() == 1 else 'them'}, or leave {rows_text(int(bad.sum()))} out with "
            "--drop-bad",
        )
    if complaints:
        keep &= ~bad
        notes.append(f"{rows_text(int(bad.sum()))} dropped: {'; '.join(complaints)}.")
    if not keep.any():
        raise LrscaleError(f"{table.path.name}: none of the {len(raw):,} rows is left", hint=" ".join(notes) or None)
    flagged = status.isin(DIVERGED).to_numpy() if status is not None else np.zeros(len(raw), dtype=bool)
    with np.errstate(invalid="ignore"):
        diverged = ~(np.abs(loss) < _HUGE) | flagged
    warnings: list[str] = []
    scale = {}
    for role in SCALE_ROLES:
        if role in columns:
            number = numbers_in(raw[columns[role]])[keep]
            wrong = ~(np.isfinite(number) & (number > 0))
            if not wrong.any():
                scale[role] = number
            else:
                warnings.append(
                    f"Column {columns[role]} ({role}) is not used: {rows_text(int(wrong.sum()))} hold no positive "
                    "number."
                )
    seed = seed_labels(raw[columns["seed"]])[keep] if "seed" in columns else np.full(int(keep.sum()), None, object)
    frame = raw[keep].reset_index(drop=True)
    warnings += _suspicions(batch[keep], batch_unit, columns["batch"])
    return CleanRuns(
        frame=frame,
        lr=lr[keep],
        batch=batch[keep],
        loss=np.where(diverged, np.nan, loss)[keep],
        seed=seed,
        line=table.lines[keep],
        scale=scale,
        batch_unit=batch_unit,
        notes=tuple(notes),
        warnings=tuple(warnings),
        n_read=len(raw),
    )


def _losses(cells: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the losses, and which cells are neither a number nor one of the words for no loss."""
    numbers = numbers_in(cells)
    unreadable = np.zeros(len(cells), dtype=bool)
    for row in np.flatnonzero(~np.isfinite(numbers)):
        cell = cells.iloc[row]
        unreadable[row] = isinstance(cell, str) and cell.strip().lower() not in _NO_LOSS
    return numbers, unreadable


def _suspicions(batch: npt.NDArray[np.float64], unit: BatchUnit | None, column: str) -> list[str]:
    found = []
    sizes = np.unique(batch)
    if sizes.size > 1:
        gap = sizes[1:] / sizes[:-1]
        widest = int(np.argmax(gap))
        if gap[widest] >= _SEQUENCE:
            found.append(
                f"Column {column} jumps from {sizes[widest]:g} to {sizes[widest + 1]:g}: does it hold both examples "
                "and tokens? Fits over batch sizes would mean nothing then."
            )
    named = next((one for one in BATCH_UNITS if one[:3] in column.lower().replace("batch", "")), None)
    if unit is not None and named is not None and named != unit:
        found.append(f"--batch-unit says {unit}, while the column is called {column}.")
    return found
