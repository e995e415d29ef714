"""Known truths of simulated sweeps, and the count of the intervals that cover them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.lr_slice.basin import basin

FloatArray = NDArray[np.float64]
Row = tuple[str, int, int, float]
"""(name, covered studies, studies with an interval, median width)"""

# Each has value 0, its minimum at 0 and second derivative 2 there (from below for the kink).
TRUTHS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "p=.5,q=1": lambda u: 2 * basin(u, 0.5, 1.0),
    "p=q=1": lambda u: 2 * basin(u, 1.0, 1.0),
    "p=.25,q=2": lambda u: 2 * basin(u, 0.25, 2.0),
    "parabola": lambda u: u**2,
    "cubic +": lambda u: u**2 + 0.15 * u**3,
    "cubic -": lambda u: u**2 - 0.1 * u**3,
    "wall": lambda u: u**2 + 0.3 * np.expm1(np.maximum(4 * (u - 1.5), 0)),
    "saturating": lambda u: np.where(u < 0, 3 * (1 - np.exp(-(u**2) / 3)), u**2),
    "kink": lambda u: 2 * np.log(np.cosh(u)) + np.where(u > 0, 0.4 * u**2, 0),
}
STRESS = ("kink",)
"""Truths that break an assumption of the model: the curvature of a kink jumps at its minimum."""
REALISTIC = tuple(name for name in TRUTHS if name not in STRESS)

LAWS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "power 0.6": (lambda batch: 1e-3 * batch**0.6, lambda batch: 0.6),
    "saturating, knee 256": (lambda batch: 0.02 / (1 + 256 / batch), lambda batch: 256 / (256 + batch)),
}
"""Best LR and its local slope at a batch size."""


@dataclass(slots=True)
class Tally:
    """Counts of one row."""

    covered: int = 0
    widths: list[float] = field(default_factory=list)

    def add(self, covered: bool, width: float) -> None:
        """Count one interval; the width is infinite where an end is open."""
        self.widths.append(width)
        self.covered += covered

    def row(self, name: str) -> Row:
        """Return the counts as a row."""
        return name, self.covered, len(self.widths), float(np.median(self.widths)) if self.widths else math.nan


def pooled(tallies: list[Tally]) -> Tally:
    """Return the counts of several tallies together."""
    return Tally(sum(one.covered for one in tallies), [width for one in tallies for width in one.widths])
