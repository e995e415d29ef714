"""Which of the measured batch sizes is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from lrscale.recommend.measured import Cell
from lrscale.recommend.words import count, percent

_SUPERLATIVES = {"time": "is the fastest", "cost": "takes the fewest device-hours"}
_WANTED = {"time": "shortest time", "cost": "least cost"}


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """A batch size and why."""

    cell: Cell
    reason: str


def choose_batch(
    cells: Sequence[Cell], objective: str, tolerance: float, taken: Callable[[Cell], float | None]
) -> Choice:
    """Choose among batch sizes, each at its own best LR and after the same number of examples.

    ``loss``: the lowest fitted loss. A batch ties with it when its loss is within `tolerance` of it, or when the 95 %
    interval of their difference includes 0 and its point difference is at most 5 x `tolerance`; of those that tie the
    largest is chosen, since it takes the fewest steps. The second condition is capped so that a study too noisy to tell
    batches apart does not drift to the largest one.

    ``time``: the shortest training time among the batch sizes whose fitted loss is within `tolerance` of the lowest;
    ``cost``: the least time of devices among them.

    Parameters
    ----------
    cells : sequence of Cell
        At least one.
    objective : {"loss", "time", "cost"}
    tolerance : float
        Relative difference of the loss that does not matter.
    taken : callable
        From a cell to its training time at the common number of examples, for ``cost`` times its devices; None where no
        speed was measured.

    Returns
    -------
    Choice
    """
    best = min(cells, key=_loss)
    if len(cells) == 1:
        return Choice(best, f"Batch {count(best.batch_size)} is the only one whose best LR was located.")
    if objective != "loss":
        timed = [(time, cell) for cell in cells if (time := taken(cell)) is not None]
        within = [(time, cell) for time, cell in timed if excess(cell, best) <= tolerance]
        if len(timed) == len(cells):
            share = f"{100 * tolerance:g} %"
            _, chosen = min(within, key=lambda pair: (pair[0], -pair[1].batch_size))
            size = f"Batch {count(chosen.batch_size)}"
            if len(within) == 1:
                return Choice(
                    chosen, f"{size} alone has a loss within {share} of the lowest at equal examples: its own."
                )
            return Choice(
                chosen,
                f"{size} {_SUPERLATIVES[objective]} of the {len(within)} batch sizes whose loss is within {share} of "
                f"the lowest ({percent(excess(chosen, best))} against batch {count(best.batch_size)}).",
            )
        fallback = _by_loss(cells, best, tolerance)
        return Choice(
            fallback.cell,
            f"The {_WANTED[objective]} was asked for, but no speed was measured for every batch size, so the choice "
            f"is by loss. {fallback.reason}",
        )
    return _by_loss(cells, best, tolerance)


def _by_loss(cells: Sequence[Cell], best: Cell, tolerance: float) -> Choice:
    tied = [cell for cell in cells if _ties(cell, best, tolerance)]
    chosen = max(tied, key=lambda cell: cell.batch_size)
    if len(tied) == 1:
        return Choice(
            chosen,
            f"Batch {count(best.batch_size)} has the lowest loss of the {len(cells)} batch sizes at equal examples.",
        )
    others = ", ".join(count(cell.batch_size) for cell in tied if cell is not chosen)
    return Choice(
        chosen,
        f"Batch {count(chosen.batch_size)} ties with {others} at equal examples "
        f"({percent(excess(chosen, best))} against "
        f"the lowest loss, within the tolerance of {100 * tolerance:g} % or the noise); the largest takes the "
        "fewest steps.",
    )


def excess(cell: Cell, best: Cell) -> float:
    """Return the relative excess of a cell's loss over another's; relative to its size where the loss is negative."""
    return (_loss(cell) - _loss(best)) / max(abs(_loss(best)), 1e-300)


def _ties(cell: Cell, best: Cell, tolerance: float) -> bool:
    over = excess(cell, best)
    if over <= tolerance:
        return True
    if over > 5 * tolerance:
        return False
    spread = math.hypot(_half_width(cell), _half_width(best))
    return _loss(cell) - _loss(best) <= spread


def _half_width(cell: Cell) -> float:
    lo, hi = cell.loss.lo, cell.loss.hi
    return 0.0 if lo is None or hi is None else (hi - lo) / 2


def _loss(cell: Cell) -> float:
    return math.inf if cell.loss.value is None else cell.loss.value
