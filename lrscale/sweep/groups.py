"""The groups of a sweep: runs that differ in learning rate, batch size and seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from lrscale.sweep.clean import CleanRuns
from lrscale.sweep.columns import ColumnMap

if TYPE_CHECKING:
    import pandas as pd

# Steps of one batch size that differ by more than rounding to whole steps or to logging intervals does.
_SAME_LENGTH = 0.02


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of a table that belong to one model, task and horizon."""

    key: Mapping[str, Any]
    """Column to its value in this group, as a number where the whole column holds numbers; empty without ``--by``."""
    rows: npt.NDArray[np.int64]
    """Rows of the cleaned table, in the order of their values."""

    @property
    def label(self) -> str:
        """The group's values as people read them, for example ``"N 215M, D_tokens 4B"``; ``"all runs"`` without any."""
        return ", ".join(f"{name} {_text(value)}" for name, value in self.key.items()) or "all runs"


def group_runs(runs: CleanRuns, by: Sequence[str] = ()) -> tuple[Group, ...]:
    """Split runs by the values of columns of the file.

    Parameters
    ----------
    runs : CleanRuns
    by : sequence of str, optional
        Columns of the file. Default: none, one group of all runs.

    Returns
    -------
    tuple of Group
        Ordered by value, the first column first.
    """
    # Sorted by value, so that the answer does not depend on the order of the rows.
    seeds = np.asarray([str(seed) for seed in runs.seed])
    return split_rows(runs.frame, by, np.lexsort((np.nan_to_num(runs.loss), seeds, runs.batch, runs.lr)))


def split_rows(frame: pd.DataFrame, by: Sequence[str], order: npt.NDArray[np.int64]) -> tuple[Group, ...]:
    """Split the rows of a table by the values of some columns; `order`, shape (n,), is kept inside each group."""
    if not by:
        return (Group(key={}, rows=order),)
    columns = [_values(frame[name]) for name in by]
    found: dict[tuple[Any, ...], list[int]] = {}
    keys = list(zip(*columns, strict=True))
    for row in order.tolist():
        found.setdefault(keys[row], []).append(row)
    ranked = sorted(found, key=lambda key: tuple((isinstance(one, str), one) for one in key))
    return tuple(
        Group(key=dict(zip(by, key, strict=True)), rows=np.asarray(found[key], dtype=np.int64)) for key in ranked
    )


def has_unseeded_replicates(runs: CleanRuns, groups: Sequence[Group]) -> bool:
    """Return whether any group has two runs at one LR and batch size of which one has no seed."""
    import pandas as pd

    bare = np.array([seed is None for seed in runs.seed])
    for group in groups:
        rows = group.rows
        cells = pd.DataFrame({"lr": runs.lr[rows], "batch": runs.batch[rows]})
        if bool((cells.duplicated(keep=False).to_numpy() & bare[rows]).any()):
            return True
    return False


def mixed_within(runs: CleanRuns, columns: ColumnMap, groups: Sequence[Group]) -> tuple[str, ...]:
    """Return what differs inside the groups although a slice needs it fixed, as sentences with the remedy."""
    found = []
    for role in ("params", "tokens", "examples", "schedule", "task"):
        if role not in columns or any(columns[role] in group.key for group in groups):
            continue
        values = runs.scale[role] if role in runs.scale else np.asarray(_values(runs.frame[columns[role]]), object)
        most = max(len(set(values[group.rows].tolist())) for group in groups)
        if most > 1:
            found.append(
                f"Column {columns[role]} takes {most:,} values inside a group, and a best LR over several of them "
                f"means little: add {columns[role]} to --by."
            )
    if "steps" in runs.scale:
        uneven = 0
        for group in groups:
            steps, batch = runs.scale["steps"][group.rows], runs.batch[group.rows]
            for size in np.unique(batch):
                own = steps[batch == size]
                uneven += bool(own.max() > (1 + _SAME_LENGTH) * own.min())
        if uneven and not found:
            found.append(
                f"Column {columns['steps']} varies at a fixed batch size in {uneven:,} slices: a slice needs runs of "
                "one length, each as one row with its final loss, not the points of its curve."
            )
    return tuple(found)


def _values(cells: Any) -> list[Any]:
    """Return the cells as numbers where all of them are numbers, else as text."""
    import pandas as pd

    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isfinite(numbers).all():
        return [float(number) for number in numbers]
    return ["(none)" if cell is None or cell != cell or cell == "" else str(cell).strip() for cell in cells]


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) < 1e4:
        return f"{value:.6g}"
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.4g}{suffix}"
    return f"{value:.6g}"
