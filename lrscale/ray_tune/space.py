"""Where a search of Ray Tune looks, in coordinates that every library takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

EXPONENT, PLACE, LR = "exponent", "place", "lr"
"""Keys of a configuration: log10 of the LR, place among the batch sizes, and the LR itself where a scheduler multiplies
it."""
DIGITS = 6
"""Significant digits of an LR, so that equal settings give equal trial ids on every machine."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """LRs between two bounds, and batch sizes in their order.

    Libraries drop log-uniform distributions or refuse them, so that all of them search over the exponent, uniformly:
    then what is random is log-uniform in the LR whatever the library does. The batch size is a real number too, from 0
    to the count of them, rounded down: it has an order, which categories would lose, and not every library has
    categories.

    Examples
    --------
    >>> space = Space(learning_rates=(1e-4, 1e-1), batch_sizes=(16, 64))
    >>> space.decode({"exponent": -2.0, "place": 1.7}), space.decode({"exponent": 5.0, "place": -1.0})
    ((0.01, 64), (0.1, 16))
    >>> space.decode({"lr": 0.0123456789})
    (0.0123457, 16)
    """

    learning_rates: tuple[float, float]
    """Lowest and highest."""
    batch_sizes: tuple[int, ...]
    """Ascending, at least one."""

    @property
    def exponents(self) -> tuple[float, float]:
        """Bounds of log10 of the LR."""
        lo, hi = self.learning_rates
        return math.log10(lo), math.log10(hi)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Bounds of every axis that a search has."""
        axes = {EXPONENT: self.exponents}
        return axes if len(self.batch_sizes) == 1 else {**axes, PLACE: (0.0, float(len(self.batch_sizes)))}

    def domains(self) -> dict[str, Any]:
        """Return the space as Ray Tune takes it."""
        from ray import tune

        return {name: tune.uniform(*ends) for name, ends in self.bounds.items()}

    def decode(self, config: Mapping[str, float]) -> tuple[float, int]:
        """Return LR and batch size of a configuration; what a library puts outside lies at the nearest bound."""
        lo, hi = self.learning_rates
        lr = config[LR] if LR in config else 10.0 ** min(max(config[EXPONENT], -300.0), 300.0)
        place = min(max(math.floor(config.get(PLACE, 0.0)), 0), len(self.batch_sizes) - 1)
        return min(max(float(f"{lr:.{DIGITS}g}"), lo), hi), self.batch_sizes[place]
