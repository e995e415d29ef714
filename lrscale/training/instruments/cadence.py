"""Which steps are measured: every one, or as many as keep measuring within a share of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

WARM_BATCHES = 3
"""First batches whose time says nothing of the others: allocation, autotuning, the buckets of DDP."""
MOST_EVERY = 1000
"""Sparsest measuring of steps that have several micro-gradients: 10,000 still bring the ten that an estimate needs."""
CALL_SECONDS = 2e-6
"""What Lightning or autograd takes to call a hook, which the hook's own clock does not see: 1.6 us in a loop."""
UNSEEN = 1.5
"""Seconds by which training grows for each second that hooks took: caches are colder after them.

Chosen on steps of digits of 3.7 ms on two busy cores, where it was 1.2 to 2.5. On idle cores (2026-11-25) digits with a
budget of 1.5 %, of which the clock here saw 1.4, took 1.016 (95 % 0.996 to 1.050) of the processor time without it and
1.023 (0.988 to 1.051) of the wall clock; in the fastest tenth of the steps 1.019 of the wall clock, and 1.010 of the
training thread (``benchmarks/noise_scale_overhead.py``).
"""


@final
class Cadence:
    """Keeps count of what training takes and of what measuring adds to it, both on the host's clock.

    On a GPU the host runs ahead, so that its clock sees a step as short as its launch: the share errs on the high side.

    Parameters
    ----------
    budget : float or None
        Largest share of the time of training that measuring may take, in (0, 1). None: no limit.
    exchange_every : int, optional
        Measured steps from one exchange with the other ranks to the next, over which its cost is spread. Default 1.
    """

    def __init__(self, budget: float | None, exchange_every: int = 1) -> None:
        self._budget = budget
        self._exchange_every = exchange_every
        self._last: float | None = None
        self._warm = 0
        self._refused = 0
        self.every = 1
        """Steps from one that is measured to the next, where ranks must agree on it."""
        self.trained = 0.0
        """Seconds of the batches so far, measuring included; validation and the first batches are not."""
        self.batches = 0
        """How many those are."""
        self.cost = 0.0
        """Seconds spent on steps that were measured; those of the first batches do not count here either."""
        self.measured = 0
        """How many steps those are."""
        self.standing = 0.0
        """Seconds spent on every batch, measured or not."""
        self.exchange = 0.0
        """Seconds spent on exchanges with the other ranks."""
        self.exchanges = 0
        """How many those are."""

    @property
    def share(self) -> float:
        """Share of the time of training that measuring took so far."""
        return self._spent / self.trained if self.trained else 0.0

    @property
    def _spent(self) -> float:
        return self.cost + self.standing + self.exchange

    def due(self, step: int) -> bool:
        """Whether a step is to be measured; the same on every rank."""
        return step % self.every == 0

    def batch(self, now: float) -> None:
        """Note that a batch begins."""
        if self._last is not None:
            if self._warm < WARM_BATCHES:
                self._warm += 1
            else:
                self.trained += now - self._last
                self.batches += 1
        self._last = now

    def pause(self) -> None:
        """Leave the time until the next batch out: something other than training comes."""
        self._last = None

    def stand(self, seconds: float) -> None:
        """Note what a batch cost that may not be measured at all."""
        if self._warm >= WARM_BATCHES:
            self.standing += seconds

    def spend(self, seconds: float, *, steps: int = 0) -> None:
        """Note what measuring took, and how many steps that completed."""
        if self._warm >= WARM_BATCHES:
            self.cost += seconds
            self.measured += steps

    def exchanged(self, seconds: float, *, whole: bool) -> None:
        """Note what a part of an exchange took, and whether that completed it."""
        self.exchange += seconds
        self.exchanges += whole

    def affords(self, cost_in_batches: float) -> bool:
        """Whether one more measurement stays within the budget; the first is taken to cost so many batches."""
        if self._budget is None:
            return True
        one = self.cost / self.measured if self.measured else cost_in_batches * self.trained / max(1, self.batches)
        afforded = self.batches > 0 and self._spent + one <= self._budget * self.trained
        self._refused += not afforded
        return afforded

    @property
    def refusal(self) -> str | None:
        """What the budget kept from being measured, as a sentence; None where it was in the way of nothing."""
        if not self._refused or self._budget is None:
            return None
        return (
            f"cutting a batch into parts was put off at {self._refused} steps to stay within {100 * self._budget:g} % "
            "of the time of training; a larger budget, or several ranks or accumulation, measure more"
        )

    def settle(self, totals: Sequence[float], accumulate: int) -> None:
        """Choose `every` from `totals`, summed over the ranks that share it."""
        trained, batches, cost, measured, standing, exchange, exchanges = totals
        if self._budget is None or measured < 1 or batches < 1 or trained <= 0:
            return
        one = UNSEEN * cost / measured
        if exchanges:
            one += UNSEEN * exchange / exchanges / self._exchange_every
        left = accumulate * (self._budget * trained - UNSEEN * standing) / batches
        self.every = min(MOST_EVERY, max(1, math.ceil(one / left))) if left > 0 else MOST_EVERY

    @property
    def totals(self) -> tuple[float, ...]:
        """What `settle` takes, of this rank."""
        return self.trained, self.batches, self.cost, self.measured, self.standing, self.exchange, self.exchanges
