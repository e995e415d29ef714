"""From cells to numbers: what counts as diverged, what is refused, and what is dropped aloud."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, final

import numpy as np
import numpy.typing as npt

from lrscale.errors import LrscaleError
from lrscale.sweep.columns import ColumnMap
from lrscale.sweep.read import SweepTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

BatchUnit = Literal["examples", "sequences", "tokens"]
SCALE_ROLES = ("params", "tokens", "examples", "steps")
"""What a table may say about the scale of a run."""
BATCH_UNITS: tuple[BatchUnit, ...] = ("examples", "sequences", "tokens")

_COMPLETED = {"completed", "complete", "finished", "done", "ok", "success", "succeeded", "trialstate_complete"}
_DIVERGED = {"diverged", "divergence", "nan", "inf", "exploded"}
# A run that ended for a reason of its own says nothing about its learning rate.
_LOST = {
    *("crashed", "failed", "fail", "killed", "oom", "out_of_memory", "timed_out", "timeout", "error", "preempted"),
    *("running", "pruned", "stopped", "scheduled", "waiting", "pending", "cancelled", "canceled", "queued"),
    *("trialstate_fail", "trialstate_pruned", "trialstate_running", "trialstate_waiting"),
}
_NO_LOSS = {"", "nan", "none", "null", "na", "n/a", "-", "diverged", "inf", "-inf", "+inf", "infinity", "-infinity"}
# Between examples and tokens lies a sequence length, which is hardly ever below this.
_SEQUENCE = 100.0
_NAMED = 5
# A loss of this size is an overflow on its way.
_HUGE = 1e30
# Nine orders of magnitude, in ln: no sweep spans them, and a fit would answer with overflows.
_FAR = 20.7


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
    same = _duplicates(raw)
    if same.any():
        keep &= ~same
        notes.append(
            f"{_rows(int(same.sum()))} dropped as exact duplicates of earlier ones ({place} "
            f"{_named(table.lines[same])})."
        )
    status = _status(raw[columns["status"]]) if "status" in columns else None
    if status is not None:
        lost = status.isin(_LOST).to_numpy() & keep
        if lost.any():
            keep &= ~lost
            words = ", ".join(f"{number} {word}" for word, number in Counter(status[lost]).most_common())
            notes.append(
                f"{_rows(int(lost.sum()))} left out by their status, which says nothing about the LR: {words}."
            )
        strange = sorted(set(status[keep]) - _COMPLETED - _DIVERGED - _LOST - {""})
        if strange:
            notes.append(f"The status {', '.join(strange[:_NAMED])} is not known; such rows are taken by their loss.")
    lr, batch = _numbers(raw[columns["lr"]]), _numbers(raw[columns["batch"]])
    loss, unreadable = _losses(raw[columns["loss"]])
    bad = np.zeros(len(raw), dtype=bool)
    complaints = []
    for role, refused, cells in (
        ("lr", _implausible(lr), raw[columns["lr"]]),
        ("batch", _implausible(batch), raw[columns["batch"]]),
        ("loss", unreadable, raw[columns["loss"]]),
    ):
        wrong = refused & keep
        if wrong.any():
            complaints.append(_complaint(role, columns[role], place, table.lines[wrong], cells[wrong]))
            bad |= wrong
    if complaints and not drop_bad:
        raise LrscaleError(
            f"{table.path.name}: {'; '.join(complaints)}",
            hint=f"mend or remove {'it' if bad.sum() == 1 else 'them'}, or leave {_rows(int(bad.sum()))} out with "
            "--drop-bad",
        )
    if complaints:
        keep &= ~bad
        notes.append(f"{_rows(int(bad.sum()))} dropped: {'; '.join(complaints)}.")
    if not keep.any():
        raise LrscaleError(f"{table.path.name}: none of the {len(raw):,} rows is left", hint=" ".join(notes) or None)
    flagged = status.isin(_DIVERGED).to_numpy() if status is not None else np.zeros(len(raw), dtype=bool)
    with np.errstate(invalid="ignore"):
        diverged = ~(np.abs(loss) < _HUGE) | flagged
    warnings: list[str] = []
    scale = {}
    for role in SCALE_ROLES:
        if role in columns:
            number = _numbers(raw[columns[role]])[keep]
            wrong = ~(np.isfinite(number) & (number > 0))
            if not wrong.any():
                scale[role] = number
            else:
                warnings.append(
                    f"Column {columns[role]} ({role}) is not used: {_rows(int(wrong.sum()))} hold no positive number."
                )
    seed = _seeds(raw[columns["seed"]])[keep] if "seed" in columns else np.full(int(keep.sum()), None, object)
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


def _implausible(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which values are not positive numbers, or are so far from the others that they must be mistakes."""
    with np.errstate(invalid="ignore"):
        fine = np.isfinite(values) & (values > 0)
        middle = float(np.median(np.log(values[fine]))) if fine.any() else 0.0
        far = np.abs(np.log(np.where(fine, values, 1.0)) - middle) > _FAR
    return ~fine | (fine & far)


def _duplicates(raw: pd.DataFrame) -> npt.NDArray[np.bool_]:
    try:
        return cast("npt.NDArray[np.bool_]", raw.duplicated().to_numpy())
    except TypeError:
        return cast("npt.NDArray[np.bool_]", raw.astype(str).duplicated().to_numpy())


def _numbers(cells: pd.Series) -> npt.NDArray[np.float64]:
    import pandas as pd

    values: npt.NDArray[np.float64] = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _losses(cells: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the losses, and which cells are neither a number nor one of the words for no loss."""
    numbers = _numbers(cells)
    unreadable = np.zeros(len(cells), dtype=bool)
    for row in np.flatnonzero(~np.isfinite(numbers)):
        cell = cells.iloc[row]
        unreadable[row] = isinstance(cell, str) and cell.strip().lower() not in _NO_LOSS
    return numbers, unreadable


def _status(cells: pd.Series) -> pd.Series:
    words = cells.astype(object).where(cells.notna(), "").astype(str).str.strip().str.lower()
    return cast("pd.Series", words.str.replace(r"[^a-z0-9]+", "_", regex=True).str.strip("_"))


def _seeds(cells: pd.Series) -> npt.NDArray[np.object_]:
    seeds = np.full(len(cells), None, dtype=object)
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            text = cell.strip()
            try:
                number = float(text)
            except ValueError:
                seeds[row] = text or None
                continue
            seeds[row] = (int(number) if number.is_integer() else text) if np.isfinite(number) else None
        elif cell is not None and cell == cell:
            seeds[row] = int(cell) if float(cell).is_integer() else str(cell)
    return seeds


def _complaint(role: str, column: str, place: str, lines: npt.NDArray[np.int64], cells: pd.Series) -> str:
    rule = {"lr": "a positive learning rate", "batch": "a positive batch size", "loss": "a loss"}[role]
    if role != "loss" and bool((_numbers(cells) > 0).any()):
        rule += ", within nine orders of magnitude of the others"
    seen = [_cell(cell) for cell in cells.iloc[:_NAMED]]
    shown = ", ".join(f"{place} {line} has {text}" for line, text in zip(lines, seen, strict=False))
    more = f" and {len(lines) - _NAMED:,} more rows" if len(lines) > _NAMED else ""
    comma = any(isinstance(cell, str) and "," in cell for cell in cells.iloc[:_NAMED])
    remedy = " (write decimal points, not commas)" if comma else ""
    return f"column {column} must hold {rule}: {shown}{more}{remedy}"


def _cell(cell: Any) -> str:
    text = "nothing" if cell is None or (isinstance(cell, str) and not cell.strip()) else str(cell).strip()
    return text if len(text) <= 24 else f"{text[:21]}..."


def _named(lines: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(line) for line in lines[:_NAMED])
    return shown + (f" and {len(lines) - _NAMED:,} more" if len(lines) > _NAMED else "")


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


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
