"""The best LR at a batch size or over a length that was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.recommend.measured import Cell
from lrscale.recommend.recommendation import Confidence
from lrscale.recommend.words import count, rate
from lrscale.study.finding import Quantity

MAX_INTERVAL_RATIO = 10.0
"""Upper end over lower end of a 95 % interval of the LR beyond which it says nothing: a range test alone brackets an LR
within about a decade."""

MAX_BATCH_RATIO = 10.0
"""How far outside the measured batch sizes a law is followed. The rules that compete there, no change and linear
change, are then a factor of this apart, which is `MAX_INTERVAL_RATIO`."""

HORIZON_EXPONENTS = (-0.5, 0.0)
"""Range of published exponents of the best LR against the number of examples at a fixed batch size: about -0.32 (Bjorck
et al. 2024, arXiv:2409.19913), -0.5 for the convex bound (Schaipp et al. 2025, arXiv:2501.18965), and 0 at large batch
sizes, where the optimum no longer moves."""


@final
@dataclass(frozen=True, slots=True)
class Transfer:
    """A cell that a law stands in for."""

    cell: Cell
    confidence: Confidence
    reason: str


@final
@dataclass(frozen=True, slots=True)
class NoTransfer:
    """Why there is none, and what it would take."""

    sentence: str
    needs: str


def transfer_batch(cells: Sequence[Cell], law: Mapping[str, Any] | None, batch_size: int) -> Transfer | NoTransfer:
    """Return the setting at a batch size that was not measured.

    Parameters
    ----------
    cells : sequence of Cell
        The measured ones, at least one, in order of batch size.
    law : mapping or None
        The fitted law of the best LR against the batch size, as ``OptimalLRFit.to_dict`` gives it.
    batch_size : int
        Where to.

    Returns
    -------
    Transfer or NoTransfer
        Refused without a law, and more than `MAX_BATCH_RATIO` outside the measured batch sizes.
    """
    low, high = cells[0].batch_size, cells[-1].batch_size
    measured = ", ".join(count(cell.batch_size) for cell in cells)
    needs = f"Measure it: --set 'experiments.scaling.batch_sizes=[{_sizes(cells, batch_size)}]'."
    if law is None or law.get("status") != "ok":
        why = "" if law is None else f" ({law.get('reason') or law.get('status')})"
        return NoTransfer(
            f"Batch {count(batch_size)} was not measured, and no law links the best LRs at batch {measured}{why}.",
            needs,
        )
    inside = low <= batch_size <= high
    if not inside and max(low / batch_size, batch_size / high) > MAX_BATCH_RATIO:
        return NoTransfer(
            f"Batch {count(batch_size)} is more than {MAX_BATCH_RATIO:g} x outside the measured batch sizes "
            f"({measured}), "
            "where the scaling rules differ too much to choose an LR.",
            needs,
        )
    lr = predict(law, batch_size)
    nearest = min(cells, key=lambda cell: abs(math.log(cell.batch_size / batch_size)))
    moved = 1.0 if not nearest.lr.value or lr.value is None else lr.value / nearest.lr.value
    name = str(law.get("law", "fitted"))
    return Transfer(
        Cell(
            batch_size=batch_size,
            lr=lr,
            loss=_interpolated_loss(cells, batch_size) if inside else Quantity(value=None),
            equivalent_lr=(nearest.equivalent_lr[0] * moved, nearest.equivalent_lr[1] * moved),
            diverged_above=None,
            trials=sum(cell.trials for cell in cells),
        ),
        "interpolated" if inside else "extrapolated",
        f"Batch {count(batch_size)} was not measured: its LR is {'between' if inside else 'beyond'} batch "
        f"{measured} on "
        f"the fitted {name} law. The range of equivalent LRs is as wide as at batch {count(nearest.batch_size)}.",
    )


def predict(law: Mapping[str, Any], batch_size: int) -> Quantity:
    """Return the law's best LR at a batch size, with its interval."""
    from lrscale.laws import OptimalLRFit

    lr, lo, hi = (_number(part) for part in OptimalLRFit.from_dict(law).predict(batch_size))
    return Quantity(value=lr, lo=lo, hi=hi, confidence=float(law.get("confidence", 0.95)))


def useless_interval(lr: Quantity) -> str | None:
    """Return why an interval is too wide to act on, or None when it is not.

    Examples
    --------
    >>> useless_interval(Quantity(value=1e-3, lo=1e-4, hi=1e-2))
    'lies between 1e-4 and 0.01 (95 %), a factor of 100'
    >>> useless_interval(Quantity(value=1e-3, lo=5e-4, hi=2e-3)) is None
    True
    """
    if lr.value is None or lr.lo is None or lr.hi is None:
        return "has no bound on one side"
    ratio = lr.hi / lr.lo if lr.lo > 0 else math.inf
    if ratio <= MAX_INTERVAL_RATIO:
        return None
    return f"lies between {rate(lr.lo)} and {rate(lr.hi)} ({100 * lr.confidence:g} %), a factor of {ratio:.3g}"


@final
@dataclass(frozen=True, slots=True)
class HorizonVerdict:
    """What a length other than the calibrated one does to the confidence."""

    confidence: Confidence
    reason: str


def judge_horizon(calibrated: int, wanted: int, lr: float) -> HorizonVerdict | None:
    """Return what is known about the LR at another length, or None when it is the calibrated one.

    The LR is never scaled here: nothing in the study measured how it moves with length. The sentence says how far
    published exponents would move it. Where they span more than `MAX_INTERVAL_RATIO` the verdict is "cannot tell".

    Parameters
    ----------
    calibrated, wanted : int
        Examples. Lengths that differ by less than 1 % are equal: the schedule is rounded to whole steps.
    lr : float
        The recommended peak LR.
    """
    ratio = wanted / calibrated
    if abs(ratio - 1) < 0.01:
        return None
    ends = sorted(lr * ratio**exponent for exponent in HORIZON_EXPONENTS)
    cannot_tell = ends[1] / ends[0] > MAX_INTERVAL_RATIO
    tail = (
        ", which is too far apart to trust it: calibrate at a longer horizon first"
        if cannot_tell
        else "; a trial at a longer horizon would tell"
    )
    return HorizonVerdict(
        "cannot tell" if cannot_tell else "extrapolated",
        f"The LR was calibrated at {count(calibrated)} examples and is not scaled to {count(wanted)} "
        f"({ratio:.3g} x). The "
        f"best LR moves with length, and that was not measured: published exponents put it between {rate(ends[0])} and "
        f"{rate(ends[1])}{tail}.",
    )


def _interpolated_loss(cells: Sequence[Cell], batch_size: int) -> Quantity:
    below = max((cell for cell in cells if cell.batch_size <= batch_size), key=lambda cell: cell.batch_size)
    above = min((cell for cell in cells if cell.batch_size >= batch_size), key=lambda cell: cell.batch_size)
    if below is above or below.loss.value is None or above.loss.value is None:
        return below.loss
    share = math.log(batch_size / below.batch_size) / math.log(above.batch_size / below.batch_size)
    ends = [end for cell in (below, above) for end in (cell.loss.lo, cell.loss.hi) if end is not None]
    return Quantity(
        value=(1 - share) * below.loss.value + share * above.loss.value,
        lo=min(ends, default=None),
        hi=max(ends, default=None),
        confidence=below.loss.confidence,
    )


def _sizes(cells: Sequence[Cell], batch_size: int) -> str:
    return ", ".join(str(size) for size in sorted({*(cell.batch_size for cell in cells), batch_size}))


def _number(value: Any) -> float | None:
    plain = float(value.reshape(-1)[0]) if hasattr(value, "reshape") else float(value)
    return plain if math.isfinite(plain) else None
