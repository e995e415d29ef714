"""From the cells of a table to numbers and words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

NAMED = 5
"""Lines that a message names at most."""
# Nine orders of magnitude, in ln: no sweep spans them, and a fit would answer with overflows.
FAR = 20.7
COMPLETED = {"completed", "complete", "finished", "done", "ok", "success", "succeeded", "trialstate_complete"}
"""Words for a run that came to its end, as `status_words` writes them."""
DIVERGED = {"diverged", "divergence", "nan", "inf", "exploded"}
"""Words for a run that diverged."""
LOST = {
    *("crashed", "failed", "fail", "killed", "oom", "out_of_memory", "timed_out", "timeout", "error", "preempted"),
    *("running", "pruned", "stopped", "scheduled", "waiting", "pending", "cancelled", "canceled", "queued"),
    *("trialstate_fail", "trialstate_pruned", "trialstate_running", "trialstate_waiting"),
}
"""Words for a run that ended for a reason of its own, and says nothing about its learning rate."""
_RULES = {
    "lr": "a positive learning rate",
    "batch": "a positive batch size",
    "loss": "a loss",
    "steps_to_target": "a positive number of steps",
    "step": "a step, not negative",
}


def implausible(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which values are not positive numbers, or are so far from the others that they must be mistakes."""
    with np.errstate(invalid="ignore"):
        fine = np.isfinite(values) & (values > 0)
        middle = float(np.median(np.log(values[fine]))) if fine.any() else 0.0
        far = np.abs(np.log(np.where(fine, values, 1.0)) - middle) > FAR
    return ~fine | (fine & far)


def duplicates(raw: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which rows equal an earlier one."""
    try:
        return cast("npt.NDArray[np.bool_]", raw.duplicated().to_numpy())
    except TypeError:
        return cast("npt.NDArray[np.bool_]", raw.astype(str).duplicated().to_numpy())


def numbers_in(cells: pd.Series) -> npt.NDArray[np.float64]:
    """Return the cells as numbers, NaN where a cell holds none."""
    import pandas as pd

    values: npt.NDArray[np.float64] = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def status_words(cells: pd.Series) -> pd.Series:
    """Return the cells in lower case, with every run of other characters as one underscore."""
    words = cells.astype(object).where(cells.notna(), "").astype(str).str.strip().str.lower()
    return cast("pd.Series", words.str.replace(r"[^a-z0-9]+", "_", regex=True).str.strip("_"))


def seed_labels(cells: pd.Series) -> npt.NDArray[np.object_]:
    """Return whole numbers and text; None where there is no seed."""
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


def shown_cell(cell: Any) -> str:
    """Return a cell as a message shows it."""
    text = "nothing" if cell is None or (isinstance(cell, str) and not cell.strip()) else str(cell).strip()
    return text if len(text) <= 24 else f"{text[:21]}..."


def named_lines(lines: npt.NDArray[np.int64]) -> str:
    """Return the first few lines, and how many more there are."""
    first = ", ".join(str(line) for line in lines[:NAMED])
    return first + (f" and {len(lines) - NAMED:,} more" if len(lines) > NAMED else "")


def rows_text(number: int) -> str:
    """Return ``"1 row"`` or ``"3 rows"``."""
    return f"{number:,} row{'' if number == 1 else 's'}"


def complaint(role: str, column: str, place: str, lines: npt.NDArray[np.int64], cells: pd.Series) -> str:
    """Return a sentence about the cells of a column that do not hold what its role needs, with their lines."""
    rule = _RULES[role]
    if role != "loss" and bool((numbers_in(cells) > 0).any()):
        rule += ", within nine orders of magnitude of the others"
    seen = [shown_cell(cell) for cell in cells.iloc[:NAMED]]
    shown = ", ".join(f"{place} {line} has {text}" for line, text in zip(lines, seen, strict=False))
    more = f" and {len(lines) - NAMED:,} more rows" if len(lines) > NAMED else ""
    comma = any(isinstance(cell, str) and "," in cell for cell in cells.iloc[:NAMED])
    remedy = " (write decimal points, not commas)" if comma else ""
    return f"column {column} must hold {rule}: {shown}{more}{remedy}"
