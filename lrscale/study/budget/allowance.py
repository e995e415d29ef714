"""What may still be spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from lrscale.study.cost.trial_cost import TrialCost


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What an experiment may still spend on top of its finished trials; None where nothing bounds it.

    Examples
    --------
    >>> cost = TrialCost(examples=4000, devices=2, seconds=10.0, basis="measured")
    >>> Allowance(seconds=35.0).affords([cost] * 8), Allowance(trials=5).affords([cost] * 8), Allowance().bounded
    (3, 5, False)
    """

    trials: int | None = None
    """Trials that may start."""
    examples: int | None = None
    """Training examples of all of them."""
    seconds: float | None = None
    """Wall-clock time of all of them."""
    at_once: int = 1
    """Trials that run side by side, at least 1."""

    @property
    def bounded(self) -> bool:
        """Whether anything bounds it."""
        return self.trials is not None or self.examples is not None or self.seconds is not None

    def affords(self, costs: Iterable[TrialCost]) -> int:
        """Return how many trials may run, taken in the order given; a time that is not known counts as none."""
        count, examples, seconds = 0, 0, 0.0
        for cost in costs:
            examples += cost.examples
            seconds += (cost.seconds or 0.0) / self.at_once
            if self.trials is not None and count + 1 > self.trials:
                break
            if self.examples is not None and examples > self.examples:
                break
            if self.seconds is not None and (seconds > self.seconds or self.seconds <= 0):
                break
            count += 1
        return count
