"""What a forecast stands on: runs over LR and batch at several model sizes and horizons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray

EQUAL = 1e-6
"""Two logarithms that differ by less are of one value: sizes, horizons and batches are whole numbers of something."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastCell:
    """The runs of one model size at one horizon."""

    label: str
    params: float
    horizon: float
    """Length of training, in the unit of all cells: tokens or examples."""
    lr: tuple[float, ...]
    """Peak LR of each run."""
    batch: tuple[float, ...]
    """Global batch size of each run, in the unit of the horizon."""
    loss: tuple[float | None, ...]
    """Final loss of each run; None where it diverged."""

    def __post_init__(self) -> None:
        if not len(self.lr) == len(self.batch) == len(self.loss):
            raise LrscaleError(
                f"cell {self.label} has {len(self.lr)} LRs, {len(self.batch)} batch sizes and {len(self.loss)} losses",
                hint="give one of each for every run",
            )
        for name, values in (
            ("params", (self.params,)),
            ("horizon", (self.horizon,)),
            ("LR", self.lr),
            ("batch size", self.batch),
        ):
            for value in values:
                if not (math.isfinite(value) and value > 0):
                    raise LrscaleError(
                        f"cell {self.label}: {name} {value} is not a positive number", hint="drop or mend the run"
                    )

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Which runs have a loss, shape (runs,)."""
        return np.array([loss is not None and math.isfinite(loss) for loss in self.loss], dtype=bool)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CellTable:
    """Cells as arrays: one row a run with a loss, places of cells, scales about their geometric mean."""

    cells: tuple[ForecastCell, ...]
    cell: NDArray[np.int_]
    """(n,)"""
    log_lr: FloatArray
    """(n,)"""
    log_batch: FloatArray
    """(n,)"""
    loss: FloatArray
    """(n,)"""
    size: FloatArray
    """ln(params) of each cell less its mean, shape (cells,)."""
    length: FloatArray
    """ln(horizon) of each cell less its mean, shape (cells,)."""
    centre: tuple[float, float]
    """Means of ln(params) and ln(horizon)."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @property
    def best(self) -> NDArray[np.int_]:
        """Row of the lowest loss of each cell, shape (cells,)."""
        rows = np.arange(self.loss.size)
        return np.array([rows[self.cell == i][np.argmin(self.loss[self.cell == i])] for i in range(self.n_cells)])

    @property
    def excess(self) -> FloatArray:
        """Loss of each run less the lowest of its cell, shape (n,)."""
        above: FloatArray = self.loss - self.loss[self.best][self.cell]
        return above

    @property
    def one_batch(self) -> bool:
        """Whether every run of every cell has the same batch size."""
        return bool(np.ptp(self.log_batch) <= EQUAL)

    @property
    def several_sizes(self) -> bool:
        """Whether the cells are of more than one model size."""
        return bool(np.ptp(self.size) > EQUAL)

    @property
    def several_lengths(self) -> bool:
        """Whether the cells are of more than one horizon."""
        return bool(np.ptp(self.length) > EQUAL)

    def several_batches(self, place: int) -> bool:
        """Return whether the runs of a cell are of more than one batch size."""
        return bool(np.ptp(self.log_batch[self.cell == place]) > EQUAL)

    def without(self, place: int) -> CellTable:
        """Return the table without one cell."""
        return tabulate([cell for i, cell in enumerate(self.cells) if i != place])


def tabulate(cells: Sequence[ForecastCell]) -> CellTable:
    """Return cells that have runs with a loss as arrays; those without are left out."""
    kept = tuple(cell for cell in cells if cell.finite.any())
    if not kept:
        raise LrscaleError("no cell has a run with a loss", hint="see why all of them diverged")
    size, length = np.log([cell.params for cell in kept]), np.log([cell.horizon for cell in kept])
    rows = [
        (i, math.log(lr), math.log(batch), float(loss))
        for i, cell in enumerate(kept)
        for lr, batch, loss, fine in zip(cell.lr, cell.batch, cell.loss, cell.finite, strict=True)
        if fine and loss is not None
    ]
    table = np.array(rows, dtype=np.float64)
    return CellTable(
        cells=kept,
        cell=table[:, 0].astype(np.int_),
        log_lr=table[:, 1],
        log_batch=table[:, 2],
        loss=table[:, 3],
        size=size - size.mean(),
        length=length - length.mean(),
        centre=(float(size.mean()), float(length.mean())),
    )
