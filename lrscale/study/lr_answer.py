"""The answer that LR slices and their law give, for a study and for a table alike: sentence, numbers, rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from lrscale.laws import OPTIMAL_LR_LAWS, LRSliceFit, OptimalLRFit
from lrscale.study.finding import Quantity
from lrscale.study.words import interval_text, number

Size = TypeVar("Size", bound=float)


def best_batch(fits: Mapping[Size, LRSliceFit]) -> Size | None:
    """Return the batch size whose fitted minimum is lowest, or None when no slice has its optimum inside."""
    known = _known(fits)
    return min(known, key=lambda size: known[size].min_loss or 0.0) if known else None


def answer_sentence(fits: Mapping[Size, LRSliceFit], law: OptimalLRFit, *, scope: str) -> str:
    """Return the finding as a sentence.

    Parameters
    ----------
    fits : mapping of float to LRSliceFit
        Slice of each batch size.
    law : OptimalLRFit
        The law through their optima.
    scope : str
        What the numbers stand on, for example ``"3 seeds, 40,000 examples"``.
    """
    best = best_batch(fits)
    known = _known(fits)
    if best is None:
        first = next(iter(fits.values()), None)
        why = first.reason if first is not None else "no trial has finished"
        return f"No batch size has an optimum inside its learning rates: {why}"
    fit = known[best]
    sentence = (
        f"At batch {best:.15g} the best peak LR is {number(fit.best_lr)} "
        f"({interval_text(*bounds(fit.interval), fit.confidence)}; {scope})"
    )
    open_ended = [size for size in fits if size not in known]
    if open_ended:
        told = ", ".join(f"{size:.15g}" for size in open_ended)
        sentence += f"; at batch {told} the optimum is not inside the learning rates tried"
    if law.law is not None and len(known) > 1:
        slope, lo, hi = slope_at(law, best)
        sentence += (
            f". Around it the best LR grows as batch to the power {number(slope)} "
            f"({interval_text(lo, hi, law.confidence)}); the {law.law.replace('_', ' ')} law describes it"
        )
    elif len(known) > 1:
        sentence += f". Which law links the batch sizes cannot be told: {law.reason.rstrip('.')}"
    return sentence + "."


def answer_numbers(fits: Mapping[Size, LRSliceFit], law: OptimalLRFit, *, unit: str) -> dict[str, Quantity]:
    """Return the best LR, its loss, the best batch size (in `unit`) and the law's local slope there; none without."""
    best = best_batch(fits)
    if best is None:
        return {}
    fit = fits[best]
    lo, hi = bounds(fit.interval)
    loss_lo, loss_hi = bounds(fit.min_loss_interval)
    numbers = {
        "best_lr": Quantity(value=fit.best_lr, lo=lo, hi=hi, confidence=fit.confidence),
        "loss": Quantity(value=fit.min_loss, lo=loss_lo, hi=loss_hi, confidence=fit.confidence),
        "best_batch_size": Quantity(value=float(best), unit=unit),
    }
    if law.law is not None:
        slope, slope_lo, slope_hi = slope_at(law, best)
        numbers["local_slope"] = Quantity(value=slope, lo=slope_lo, hi=slope_hi, confidence=law.confidence)
    return numbers


def slice_rows(fits: Mapping[Size, LRSliceFit], counts: Mapping[Size, int] | None = None) -> tuple[dict[str, Any], ...]:
    """Return the table of slices, one row a batch size.

    Parameters
    ----------
    fits : mapping of float to LRSliceFit
        Slice of each batch size.
    counts : mapping of float to int, optional
        Runs of each batch size, those that the fit leaves out included. Default None: the runs of the fit.
    """
    rows = []
    for size, fit in fits.items():
        lo, hi = bounds(fit.interval)
        equal_lo, equal_hi = bounds(fit.equivalence)
        loss_lo, loss_hi = bounds(fit.min_loss_interval)
        rows.append(
            {
                "batch_size": size,
                "best_lr": fit.best_lr,
                "lo": lo,
                "hi": hi,
                "equivalent_lo": equal_lo,
                "equivalent_hi": equal_hi,
                "loss": fit.min_loss,
                "loss_lo": loss_lo,
                "loss_hi": loss_hi,
                "diverged_above": fit.diverged_above,
                "trials": fit.n_runs if counts is None else counts[size],
                "status": fit.status.value,
            }
        )
    return tuple(rows)


def law_rows(law: OptimalLRFit) -> tuple[dict[str, Any], ...]:
    """Return the table of competing laws."""
    return tuple(
        {
            "law": row.law,
            "formula": OPTIMAL_LR_LAWS[row.law].formula,
            "aicc": row.aicc,
            "loo": row.loo_error,
            "verdict": row.verdict,
            "parameters": ", ".join(
                f"{name} {number(value)} ({interval_text(interval.lo, interval.hi, interval.confidence)})"
                for name, value, interval in row.parameters
            ),
        }
        for row in law.table
    )


def bounds(interval: Any) -> tuple[float | None, float | None]:
    """Return the ends of an interval or pair; both None when there is none."""
    if interval is None:
        return None, None
    return (interval[0], interval[1]) if isinstance(interval, tuple) else (interval.lo, interval.hi)


def slope_at(law: OptimalLRFit, batch_size: float) -> tuple[float, float, float]:
    """Return d log LR / d log batch at a batch size, with its interval."""
    slope, lo, hi = law.local_slope(batch_size)
    return float(slope[0]), float(lo[0]), float(hi[0])


def _known(fits: Mapping[Size, LRSliceFit]) -> dict[Size, LRSliceFit]:
    return {size: fit for size, fit in fits.items() if fit.min_loss is not None and fit.best_lr is not None}
