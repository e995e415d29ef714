"""Measured steps to a target, checked and in logarithms."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepsData:
    """Runs that reached a target, or stopped short of it."""

    batch: FloatArray
    """Batch size of each run, shape (n,)."""
    steps: FloatArray
    """Steps to the target, or the bound of a censored run, shape (n,)."""
    log_batch: FloatArray
    """ln(batch size) of each run, shape (n,)."""
    log_steps: FloatArray
    """ln(steps to the target), or the bound of a censored run, shape (n,)."""
    side: NDArray[np.int_]
    """0: reached; +1: needs more steps than the bound; -1: needs fewer; shape (n,)."""
    cell: NDArray[np.int_]
    """Number of the distinct batch size of each run, shape (n,)."""
    seed: NDArray[np.int_] | None = None
    """Number of the distinct seed of each run, shape (n,)."""

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Which runs reached the target."""
        return np.asarray(self.side == 0)

    @property
    def n_cells(self) -> int:
        """Number of distinct batch sizes."""
        return int(self.cell.max()) + 1 if self.cell.size else 0

    @property
    def n_reached_cells(self) -> int:
        """Number of distinct batch sizes of which a run reached the target."""
        return int(np.unique(self.cell[self.reached]).size)

    def merged(self) -> Points:
        """Return the mean of the reached runs of each batch size, then the censored runs."""
        seen = self.reached
        cells, first, place, count = np.unique(
            self.cell[seen], return_index=True, return_inverse=True, return_counts=True
        )
        weight = count.astype(np.float64)
        mean = np.bincount(place, self.log_steps[seen], minlength=cells.size) / weight
        cut = ~seen
        return Points(
            log_batch=np.concatenate([self.log_batch[seen][first], self.log_batch[cut]]),
            log_steps=np.concatenate([mean, self.log_steps[cut]]),
            side=np.concatenate([np.zeros(cells.size, dtype=np.int_), self.side[cut]]),
            count=np.concatenate([weight, np.ones(int(cut.sum()))]),
            within=float(np.sum((self.log_steps[seen] - mean[place]) ** 2)),
        )

    def only(self, keep: NDArray[np.bool_]) -> StepsData:
        """Return some of the runs, with their batch sizes numbered anew."""
        return StepsData(
            batch=self.batch[keep],
            steps=self.steps[keep],
            log_batch=self.log_batch[keep],
            log_steps=self.log_steps[keep],
            side=self.side[keep],
            cell=np.unique(self.cell[keep], return_inverse=True)[1],
            seed=None if self.seed is None else self.seed[keep],
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """All that the likelihood of a curve depends on, however many runs there are."""

    log_batch: FloatArray
    """Shape (n,)."""
    log_steps: FloatArray
    """Mean of the runs that reached the target, or the bound of one that did not, shape (n,)."""
    side: NDArray[np.int_]
    """As for the runs, shape (n,)."""
    count: FloatArray
    """Runs in each, shape (n,)."""
    within: float
    """Sum of squares of the reached runs about the means of their batch sizes."""


def read_steps(
    batch_sizes: ArrayLike, steps: ArrayLike, censored: ArrayLike | None, seed: Sequence[Hashable] | None
) -> StepsData:
    """Check and convert what `fit_steps_to_target` was given.

    Raises
    ------
    LrscaleError
        For lengths that differ, or a batch size or steps that is not a positive number; rows count from 0.
    """
    batch = np.atleast_1d(np.asarray(batch_sizes, dtype=np.float64))
    taken = np.atleast_1d(np.asarray(steps, dtype=np.float64))
    marks = np.zeros(taken.shape) if censored is None else np.atleast_1d(np.asarray(censored, dtype=np.float64))
    lengths = {"batch_sizes": batch.shape, "steps": taken.shape, "censored": marks.shape}
    if seed is not None:
        lengths["seed"] = (len(seed),)
    if batch.ndim != 1 or len(set(lengths.values())) != 1:
        raise LrscaleError(
            f"shapes differ: {', '.join(f'{name} {shape}' for name, shape in lengths.items())}",
            hint="give one value of each for each run",
        )
    for name, values, hint in (
        ("batch size", batch, "drop or mend it"),
        ("steps", taken, "give the last step of a run that did not reach the target, and mark it in censored"),
    ):
        wrong = ~np.isfinite(values) | (values <= 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise LrscaleError(f"row {row}: {name} {values[row]} is not a positive number", hint=hint)
    unknown = ~np.isin(marks, (-1, 0, 1))
    if unknown.any():
        row = int(np.argmax(unknown))
        raise LrscaleError(
            f"row {row}: censored {marks[row]:g} is none of 0, 1, -1",
            hint="use True or 1 for a run that needs more steps than its bound, -1 for fewer",
        )
    numbers = None
    if seed is not None:
        labels = {label: i for i, label in enumerate(dict.fromkeys(seed))}
        numbers = np.array([labels[label] for label in seed], dtype=np.int_)
    cell = np.unique(batch, return_inverse=True)[1] if batch.size else np.zeros(0, dtype=np.int_)
    return StepsData(
        batch=batch,
        steps=taken,
        log_batch=np.log(batch),
        log_steps=np.log(taken),
        side=marks.astype(np.int_),
        cell=cell,
        seed=numbers,
    )
