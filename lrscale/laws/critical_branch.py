"""The critical batch size from branches: the largest batch that ends as low on as many examples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from lrscale.laws.base import finite_or_none
from lrscale.laws.difference import Difference, paired_difference

Losses = Mapping[int, Mapping[Hashable, float | None]]
"""Multiple of the trunk's batch -> order of the examples -> loss at the end of the branch; None where it diverged."""
Standing = Literal["within", "beyond", "cannot tell"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRow:
    """Branches at one multiple of the trunk's batch."""

    multiple: int
    loss: float | None
    """Mean over the orders; None where one of them diverged."""
    above: float | None
    """Mean minus the lowest mean of the smaller multiples; 0 for the first."""
    difference: Difference | None
    """From the multiple of that lowest mean, paired by order; None for the first."""
    within: bool
    """Whether it ends within the tolerance of it, and so did every smaller one."""
    standing: Standing
    """What the interval of the difference says: all within the tolerance, all beyond it, or neither."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "multiple": self.multiple,
            "loss": finite_or_none(self.loss),
            "above": finite_or_none(self.above),
            "difference": None if self.difference is None else self.difference.to_dict(),
            "within": self.within,
            "standing": self.standing,
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BranchedBatch:
    """The largest multiple of the trunk's batch that costs no more examples from one place in training on."""

    rows: tuple[BranchRow, ...]
    """By multiple, rising."""
    tolerance: float
    multiple: int | None
    """The largest one within the tolerance, as are all smaller ones; None without the losses of the first."""
    lo: int | None
    """The largest one up to which every interval lies within the tolerance; None where not even the second does."""
    hi: int | None
    """The smallest one whose interval lies beyond it; None where none does."""

    @property
    def open_above(self) -> bool:
        """Whether every multiple that was tried is within the tolerance, so that the critical batch lies above."""
        return self.multiple is not None and self.multiple == self.rows[-1].multiple


def order_sd(losses: Sequence[Losses]) -> float | None:
    """Return the standard deviation of the difference of two branches at the trunk's own batch that see other orders.

    Parameters
    ----------
    losses : sequence of mapping
        Of each branch point; what they say is pooled.

    Returns
    -------
    float or None
        Root 2 times that of one branch; None where no point has two orders.

    Examples
    --------
    >>> round(order_sd([{1: {0: 2.0, 1: 2.1, 2: 1.9}}]), 3)
    0.141
    """
    squares, degrees = 0.0, 0
    for own in losses:
        values = [float(loss) for loss in own.get(1, {}).values() if loss is not None and math.isfinite(loss)]
        if len(values) > 1:
            squares += float(np.sum((np.array(values) - np.mean(values)) ** 2))
            degrees += len(values) - 1
    return math.sqrt(2 * squares / degrees) if degrees else None


def judge_branches(losses: Losses, tolerance: float) -> BranchedBatch:
    """Return the largest batch whose branches end within a tolerance of those at every smaller one.

    Parameters
    ----------
    losses : mapping
        The trunk's own batch is multiple 1.
    tolerance : float
        Loss by which a larger batch may end above; twice `order_sd` is what the order of the examples alone makes of
        two branches.

    Notes
    -----
    Branches at k times the batch see as many examples as those at 1, so that they take 1 / k of the steps. Merrill et
    al. 2025 (arXiv:2505.23971) take the largest k with L_k <= L_j + tolerance for all smaller j, at a tolerance of
    0.01. What is found is local: the largest safe batch from that place in training on, assuming that a branch has
    recovered from its change of batch within its length.

    Examples
    --------
    >>> found = judge_branches({1: {0: 2.0, 1: 2.1}, 2: {0: 2.001, 1: 2.102}, 4: {0: 2.1, 1: 2.21}}, tolerance=0.01)
    >>> found.multiple, found.open_above
    (2, False)
    """
    rows: list[BranchRow] = []
    best: tuple[float, int] | None = None
    still = True
    for multiple in sorted(losses):
        values = list(losses[multiple].values())
        finite = [float(loss) for loss in values if loss is not None and math.isfinite(loss)]
        mean = sum(finite) / len(finite) if finite and len(finite) == len(values) else None
        if best is None:
            if multiple != 1 or mean is None:
                return BranchedBatch(rows=(), tolerance=tolerance, multiple=None, lo=None, hi=None)
            rows.append(BranchRow(multiple=1, loss=mean, above=0.0, difference=None, within=True, standing="within"))
            best = (mean, 1)
            continue
        gap = None
        if mean is not None:
            gap = paired_difference(losses[multiple], losses[best[1]], margin=tolerance)
        above = None if mean is None else _paired_mean(losses[multiple], losses[best[1]], mean - best[0])
        still = still and above is not None and above <= tolerance
        rows.append(
            BranchRow(
                multiple=multiple,
                loss=mean,
                above=above,
                difference=gap,
                within=still,
                standing=_standing(gap, tolerance) if mean is not None else "beyond",
            )
        )
        if mean is not None and mean < best[0]:
            best = (mean, multiple)
    lowest, highest = None, None
    for row in rows[1:]:
        if row.standing == "beyond" and highest is None:
            highest = row.multiple
    for row in rows[1:]:
        if row.standing != "within":
            break
        lowest = row.multiple
    within = [row.multiple for row in rows if row.within]
    return BranchedBatch(
        rows=tuple(rows),
        tolerance=tolerance,
        multiple=max(within, default=None),
        lo=lowest,
        hi=highest,
    )


def _paired_mean(a: Mapping[Hashable, float | None], b: Mapping[Hashable, float | None], otherwise: float) -> float:
    pairs = [(a[order], b.get(order)) for order in a]
    gaps = [one - other for one, other in pairs if one is not None and other is not None]
    return sum(gaps) / len(gaps) if gaps else otherwise


def _standing(gap: Difference | None, tolerance: float) -> Standing:
    if gap is None or gap.interval is None or gap.interval.lo is None or gap.interval.hi is None:
        return "cannot tell"
    if gap.interval.hi <= tolerance:
        return "within"
    return "beyond" if gap.interval.lo > tolerance else "cannot tell"
