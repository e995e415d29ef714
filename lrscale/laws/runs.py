"""The runs of one LR slice: checked arrays, divergence, and seed blocks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray

SeedLabel = int | str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """One slice: several peak LRs at one batch size, horizon and schedule."""

    lr: FloatArray
    """Peak LRs, shape (n,)."""
    loss: FloatArray
    """Final losses, NaN where the run diverged, shape (n,)."""
    diverged: NDArray[np.bool_]
    """Which runs diverged, shape (n,)."""
    seeds: tuple[SeedLabel, ...]
    """Seed labels as given, or None for each run."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which runs enter the fit."""
        return ~self.diverged

    def diverged_fraction(self) -> tuple[tuple[float, float], ...]:
        """Return (LR, fraction of its runs that diverged) for each distinct LR, in order."""
        return tuple((float(lr), float(self.diverged[self.lr == lr].mean())) for lr in np.unique(self.lr))

    def diverged_above(self) -> float | None:
        """Return the smallest LR from which upwards at least half of the runs diverged at every tried LR.

        A lone divergence below LRs that trained does not bound the optimum, hence "from which upwards".
        """
        bound = None
        for lr, fraction in reversed(self.diverged_fraction()):
            if fraction < 0.5:
                break
            bound = lr
        return bound

    def blocks(self) -> tuple[FloatArray, tuple[SeedLabel, ...]]:
        """Return the block columns of the kept runs, shape (kept, blocks), and a label for each block.

        A seed that trained at two or more distinct LRs is a block of its own: its common shift of the loss says nothing
        about the vertex. The other runs share one block, labelled None.
        """
        lrs_of: dict[SeedLabel, set[float]] = defaultdict(set)
        kept = np.flatnonzero(self.kept)
        for i in kept:
            if self.seeds[i] is not None:
                lrs_of[self.seeds[i]].add(float(self.lr[i]))
        label_of = [self.seeds[i] if len(lrs_of.get(self.seeds[i], ())) > 1 else None for i in kept]
        labels = tuple(dict.fromkeys(label_of))
        columns = np.array([[float(own == label) for label in labels] for own in label_of])
        return columns.reshape(len(kept), len(labels)), labels


def read_runs(
    lr: ArrayLike,
    loss: Sequence[float | None] | ArrayLike,
    diverged: ArrayLike | None,
    seed: Sequence[Hashable] | ArrayLike | None,
) -> Runs:
    """Check and convert the columns of a slice.

    Raises
    ------
    LrscaleError
        When columns differ in length, or an LR is missing, infinite or not positive (the message names the row,
        counted from 0).
    """
    lrs = np.atleast_1d(np.asarray(lr, dtype=np.float64))
    # numpy reads None as NaN.
    losses = np.atleast_1d(np.asarray(loss, dtype=np.float64))
    if lrs.ndim != 1 or lrs.shape != losses.shape:
        raise LrscaleError(
            f"lr has shape {lrs.shape} and loss has shape {losses.shape}", hint="give one loss for each LR"
        )
    if lrs.size == 0:
        raise LrscaleError("a slice needs at least one run", hint="pass the LRs and losses of its runs")
    for row, value in enumerate(lrs):
        if not (math.isfinite(value) and value > 0):
            raise LrscaleError(
                f"row {row}: learning rate {value} is not a positive number", hint="drop or mend the row"
            )
    gone = ~np.isfinite(losses)
    if diverged is not None:
        flags = np.atleast_1d(np.asarray(diverged, dtype=bool))
        if flags.shape != lrs.shape:
            raise LrscaleError(
                f"diverged has shape {flags.shape}, lr has {lrs.shape}", hint="give one flag for each run"
            )
        gone = gone | flags
    labels: tuple[SeedLabel, ...] = (None,) * lrs.size
    if seed is not None:
        given = list(np.asarray(seed, dtype=object)) if not isinstance(seed, list | tuple) else list(seed)
        if len(given) != lrs.size:
            raise LrscaleError(f"seed has {len(given)} entries, lr has {lrs.size}", hint="give one seed for each run")
        labels = tuple(_label(value) for value in given)
    return Runs(lr=lrs, loss=np.where(gone, np.nan, losses), diverged=gone, seeds=labels)


def _label(value: object) -> SeedLabel:
    if value is None:
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return None
        return int(value) if float(value).is_integer() else str(value)
    return str(value)
