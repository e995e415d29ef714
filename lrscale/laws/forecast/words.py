"""What a forecast says besides its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.laws.forecast.cells import CellTable
from lrscale.laws.forecast.families import Place
from lrscale.laws.forecast.joint_fit import JointFit


def cells_needed(fit: JointFit, place: Place) -> str:
    """Return which cells would narrow the forecast: along the direction that carries most of its variance."""
    table = fit.table
    size, length = place.offsets(table)
    doubt = {
        "params": abs(size) * float(np.std(fit.draws[:, 1])),
        "horizon": abs(length) * float(np.std(fit.draws[:, 2])),
    }
    name = max(doubt, key=lambda key: doubt[key])
    target, seen = (place.params, table.size) if name == "params" else (place.horizon, table.length)
    far = math.log(target) - table.centre[0 if name == "params" else 1]
    edge = float(seen.max() if far > 0 else seen.min())
    # Half way in the logarithm, or ten times the edge where that is nearer: what a small study can reach.
    step = math.copysign(min(abs(far - edge) / 2, math.log(10)), far - edge)
    wanted = math.exp(edge + step + table.centre[0 if name == "params" else 1])
    # A cell less than a tenth away tells no exponent.
    if abs(step) < 0.1:
        return "Train more runs in the cells that are there."
    return f"Add cells at {name} {wanted:.2g}, at two values of the other."


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnd:
    """An end of the batches tried at or beyond which the best batch of most cells lies."""

    log_batch: float
    sentence: str


def batch_end(table: CellTable) -> BatchEnd | None:
    """Return the end of the batches tried at which more than half of the cells have their lowest loss, or None.

    What lies beyond is not known; the LR at the end is, and that is where an LR can be named.
    """
    if table.one_batch:
        return None
    sides = []
    for i, row in enumerate(table.best):
        own = table.log_batch[table.cell == i]
        low, high = float(own.min()), float(own.max())
        if high > low:
            sides.append((low, high, -1 if table.log_batch[row] == low else int(table.log_batch[row] == high)))
    for side, word in ((-1, "smallest"), (1, "largest")):
        ends = [(low if side < 0 else high) for low, high, own in sides if own == side]
        if len(ends) * 2 > table.n_cells:
            at = max(ends) if side < 0 else min(ends)
            return BatchEnd(
                log_batch=at,
                sentence=(
                    f"In {len(ends)} of {table.n_cells} cells the {word} batch tried has the lowest loss, so that the "
                    f"best batch is not known: the LR is the best one at batch {math.exp(at):.6g}."
                ),
            )
    return None


def edge_notes(table: CellTable) -> list[str]:
    """Return which cells have their lowest loss at the end of what was tried."""
    notes = []
    known = {"LRs": True, "batch sizes": batch_end(table) is None}
    for i, row in enumerate(table.best):
        own = table.cell == i
        for name, values in (("LRs", table.log_lr), ("batch sizes", table.log_batch)):
            inside = values[own].min() < values[row] < values[own].max()
            if known[name] and not inside and np.ptp(values[own]) > 0:
                notes.append(f"{table.cells[i].label}: the lowest loss lies at the end of the {name} tried.")
    return notes
