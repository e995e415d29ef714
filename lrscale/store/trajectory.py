"""Loss against steps, examples and time, one row per optimizer step or validation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

LINES_NAME = "trajectory.jsonl"
PARQUET_NAME = "trajectory.parquet"
INTEGER_COLUMNS = ("step", "examples", "global_batch_size")
COLUMNS = (*INTEGER_COLUMNS, "seconds", "lr", "train_loss", "val_loss")

FloatArray = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Trajectory:
    """The rows of one trial, as columns of equal length.

    ``step`` and ``examples`` count what was done at the end of the row, ``seconds`` since training began, ``lr`` is
    that of the reference group during the step. A cell without a value is NaN. A row with ``val_loss`` carries the step
    after which validation ran.

    Examples
    --------
    >>> rows = [{"step": 1, "examples": 32, "train_loss": 2.0}, {"step": 1, "examples": 32, "val_loss": 1.5}]
    >>> Trajectory.from_rows(rows).points("val_loss")
    (array([1.]), array([1.5]))
    """

    columns: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]]) -> Trajectory:
        """Return the columns of rows; a missing or null cell is NaN."""
        names = dict.fromkeys(COLUMNS)
        for row in rows:
            names.update(dict.fromkeys(row))
        nan = float("nan")
        columns = {}
        for name in names:
            cells = [row.get(name) for row in rows]
            columns[name] = np.array([nan if cell is None else float(cell) for cell in cells], dtype=np.float64)
        return cls(columns)

    def __len__(self) -> int:
        return len(self.columns["step"]) if self.columns else 0

    def __getitem__(self, name: str) -> FloatArray:
        return self.columns[name]

    def points(self, name: str, against: str = "step") -> tuple[FloatArray, FloatArray]:
        """Return the rows that carry `name`, as a pair of arrays: `against` and the values."""
        if not self.columns:
            return np.empty(0), np.empty(0)
        present = ~np.isnan(self.columns[name])
        return self.columns[against][present], self.columns[name][present]

    def frame(self) -> pd.DataFrame:
        """Return a tidy data frame, one row a row."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns))


def read_trajectory(folder: Path) -> Trajectory:
    """Read a trial's trajectory, finished or not; an absent one is empty.

    A torn last line, left by a kill in the middle of a write, is cut at the last newline and never read as a number; a
    line that a power cut left unreadable is left out.
    """
    parquet = folder / PARQUET_NAME
    if parquet.exists():
        import pyarrow.parquet as pq

        table = pq.read_table(parquet)
        columns = {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}
        return Trajectory(columns)
    lines = folder / LINES_NAME
    if not lines.exists():
        return Trajectory()
    whole, newline, _ = lines.read_bytes().rpartition(b"\n")
    if not newline:
        return Trajectory()
    return Trajectory.from_rows([row for line in whole.split(b"\n") if (row := _row(line)) is not None])


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def pack_trajectory(folder: Path) -> None:
    """Turn a finished trial's lines into Parquet: a fifth of the size, and faster to read.

    A kill in the middle leaves the lines; a kill before the lines are removed leaves both, with equal content.
    """
    lines = folder / LINES_NAME
    if not lines.exists():
        return
    if not (folder / PARQUET_NAME).exists():
        import pyarrow as pa
        import pyarrow.parquet as pq

        trajectory = read_trajectory(folder)
        if not len(trajectory):
            return
        partial = folder / f".{PARQUET_NAME}.partial"
        # NaN is the mark of an empty cell in memory and on disk alike, so a round trip changes no bit.
        with partial.open("wb") as stream:
            pq.write_table(pa.table(dict(trajectory.columns)), stream, compression="zstd")
            stream.flush()
            # The lines go next: the table must be on the disk before, whatever happens to the machine.
            os.fsync(stream.fileno())
        partial.replace(folder / PARQUET_NAME)
    lines.unlink()
