"""The learning rates that a search may try."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

from lrscale.laws.lr_slice.lattice import HIGHEST_LR, LOWEST_LR, lattice_index, lattice_lr, lattice_place

RATIO = math.sqrt(2.0)
"""Ratio of neighbouring LRs. Half a step costs less than the noise of a run, and every second one is an LR of the
experiments that double it."""
MARGIN = 2
"""Steps beyond either end of the box that may be tried as well."""
EXTENSION = 4
"""Steps by which a ladder grows where the best LR lies at its end, a factor of 4; twice as many the second time, and so
on: a guess that was far off may be off by decades."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """LRs of equal ratio, the same of every study, and the box in which the best one is expected.

    Examples
    --------
    >>> ladder = Ladder.around(1e-3, 4e-3)
    >>> ladder.lrs
    (0.0005, 0.000707107, 0.001, 0.00141421, 0.002, 0.00282843, 0.004, 0.00565685, 0.008)
    >>> ladder.extended(0.008).lrs[-1], ladder.extended(0.002) is None, Ladder.within(1e-3, 2e-3).lrs
    (0.032, True, (0.001, 0.00141421, 0.002))
    """

    lrs: tuple[float, ...]
    """Ascending."""
    box: tuple[float, float]
    bound: bool = False
    """Whether the recipe allows no other."""
    grown: int = 0
    """How often it has grown."""

    @classmethod
    def around(cls, lo: float, hi: float) -> Ladder:
        """Return the ladder of a box, with a margin."""
        first, last = lattice_index(lo, RATIO) - MARGIN, lattice_index(hi, RATIO) + MARGIN
        return cls(lrs=_rungs(first, last), box=(lo, hi))

    @classmethod
    def within(cls, lo: float, hi: float) -> Ladder:
        """Return the ladder of LRs that a recipe allows; its ends themselves where no rung lies between."""
        first, last = math.ceil(lattice_place(lo, RATIO) - 1e-6), math.floor(lattice_place(hi, RATIO) + 1e-6)
        rungs = _rungs(first, last) if first <= last else tuple(sorted({lo, hi}))
        return cls(lrs=rungs, box=(rungs[0], rungs[-1]), bound=True)

    @property
    def step(self) -> float:
        """Ratio of neighbouring LRs."""
        return self.lrs[1] / self.lrs[0] if len(self.lrs) > 1 else RATIO

    def is_end(self, lr: float) -> bool:
        """Whether an LR is the first or the last, or within half a step of it."""
        half = math.sqrt(self.step) * (1 - 1e-9)
        return lr < self.lrs[0] * half or lr > self.lrs[-1] / half

    def extended(self, lr: float) -> Ladder | None:
        """Return a longer ladder where an LR is at an end of this one, or None where it is not or may not grow."""
        if self.bound or not self.is_end(lr):
            return None
        first, last = lattice_index(self.lrs[0], RATIO), lattice_index(self.lrs[-1], RATIO)
        lo, hi = self.box
        more = EXTENSION * (self.grown + 1)
        if lr == self.lrs[0]:
            first = max(first - more, math.ceil(lattice_place(LOWEST_LR, RATIO)))
            lo = min(lo, lattice_lr(first, RATIO))
        else:
            last = min(last + more, math.floor(lattice_place(HIGHEST_LR, RATIO)))
            hi = max(hi, lattice_lr(last, RATIO))
        rungs = _rungs(first, last)
        return None if rungs == self.lrs else replace(self, lrs=rungs, box=(lo, hi), grown=self.grown + 1)

    def reaching(self, lr: float) -> Ladder:
        """Return the ladder grown until an LR lies within its ends, as far as it may grow."""
        ladder = self
        while not ladder.lrs[0] <= lr <= ladder.lrs[-1]:
            longer = ladder.extended(ladder.lrs[0] if lr < ladder.lrs[0] else ladder.lrs[-1])
            if longer is None:
                break
            ladder = longer
        return ladder

    def beside(self, lr: float, steps: int) -> tuple[float, ...]:
        """Return the LRs some steps below and above one, as far as there are any."""
        place = self.lrs.index(lr)
        found = dict.fromkeys((max(place - steps, 0), min(place + steps, len(self.lrs) - 1)))
        return tuple(self.lrs[one] for one in found if one != place)


def _rungs(first: int, last: int) -> tuple[float, ...]:
    return tuple(lattice_lr(index, RATIO) for index in range(first, last + 1))
