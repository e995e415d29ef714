"""The best LR against a number other than the batch size: a power, from two slices or more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray, Interval
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.optimal_lr.optimal_lr import fit_optimal_lr

FEWEST_FOR_LAW = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FactorLaw:
    """The power of the best LR in a number. `fit_factor_law` makes it."""

    exponent: float | None
    """d log best LR / d log value; None where the slices do not tell."""
    interval: Interval | None
    levels: int
    """Slices that it stands on, censored ones included."""
    reason: str
    """How it was found, or why it was not."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` rebuilds it."""
        return {
            "exponent": self.exponent,
            "interval": None if self.interval is None else self.interval.to_dict(),
            "levels": self.levels,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FactorLaw:
        """Rebuild what `to_dict` wrote."""
        interval = None if data["interval"] is None else Interval.from_dict(data["interval"])
        return cls(**{**data, "interval": interval})


def fit_factor_law(values: ArrayLike, slices: Sequence[LRSliceFit], *, confidence: float = 0.95) -> FactorLaw:
    """Fit ``best LR = amplitude * value^exponent`` through the optima of some slices.

    Three usable slices or more are fitted like the best LR against the batch size, with censored slices as one-sided
    terms and a variance for what the power law does not explain. Two located ones give the ratio of their optima alone.

    Parameters
    ----------
    values : array-like of shape (n,)
        Positive numbers, one a slice, such as the width of the model.
    slices : sequence of LRSliceFit
    confidence : float, optional
        Default 0.95.

    Raises
    ------
    LrscaleError
        When a value is not a positive number.

    Examples
    --------
    >>> from lrscale.laws import fit_lr_slice
    >>> slices = []
    >>> for width in (64, 128, 256, 512):
    ...     lr = [0.64 / width * x for x in (0.25, 0.5, 1, 2, 4)]
    ...     slices.append(fit_lr_slice(lr, [x / 0.64 * width + 0.64 / width / x for x in lr]))
    >>> law = fit_factor_law([64, 128, 256, 512], slices)
    >>> round(law.exponent, 1), law.interval.contains(-1), law.interval.contains(0)
    (-1.0, True, False)
    """
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if not np.all(np.isfinite(numbers) & (numbers > 0)) or numbers.size != len(slices):
        raise LrscaleError(
            f"{numbers.size} values for {len(slices)} slices, or one that is not a positive number",
            hint="give a positive number for each slice",
        )
    located = [i for i, own in enumerate(slices) if own.best_lr is not None]
    if len(slices) >= FEWEST_FOR_LAW:
        # Of the square the exponent is half as large: the range that is searched, -1 to 2, becomes -2 to 4.
        fit = fit_optimal_lr(numbers**2, slices, confidence=confidence)
        row = next((one for one in fit.table if one.law == "power"), None)
        if row is not None:
            _, half, ends = row.parameters[1]
            lo, hi = (None if end is None else 2 * end for end in (ends.lo, ends.hi))
            used = sum(own.vertex is not None for own in slices)
            return FactorLaw(
                exponent=2 * half,
                interval=Interval(lo, hi, confidence),
                levels=used,
                reason=f"a power law through {used} slices, {len(located)} of them with their optimum inside",
            )
    if len(located) < 2:
        return FactorLaw(
            exponent=None,
            interval=None,
            levels=len(located),
            reason=f"{len(located)} of {len(slices)} slices have their optimum inside the learning rates tried",
        )
    ordered = sorted(located, key=lambda i: float(numbers[i]))
    first, last = ordered[0], ordered[-1]
    powers = move_of_optimum(slices[first], slices[last]) / math.log(numbers[last] / numbers[first])
    tail = 50 * (1 - confidence)
    lo, middle, hi = (float(end) for end in np.percentile(powers, [tail, 50, 100 - tail]))
    return FactorLaw(exponent=middle, interval=Interval(lo, hi, confidence), levels=2, reason="the ratio of two optima")


def move_of_optimum(a: LRSliceFit, b: LRSliceFit) -> FloatArray:
    """Return draws of ln(best LR of b / best LR of a), the errors of the two slices taken as independent.

    Slices with common seeds err alike, so that the ratio is no less sure than this.
    """
    ends = [np.asarray(fit.vertex_draws) for fit in (a, b)]
    count = min(end.size for end in ends)
    # Draws of two slices of equal design are in the same order of their quantiles.
    mixed = np.random.default_rng(20260101).permutation(ends[0].size)[:count]
    draws: FloatArray = ends[1][:count] - ends[0][mixed]
    return draws
