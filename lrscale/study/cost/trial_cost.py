"""The cost of one trial, and how it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final, get_args

Basis = Literal["measured", "between", "beyond", "stated", "unknown"]
"""How a time is known: its layout was timed, lies between layouts that were, lies beyond them or beyond the first steps
of the trials so far, follows from the stated throughput, or not at all."""
BASES: tuple[Basis, ...] = get_args(Basis)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCost:
    """What a trial is expected to take when it runs to its horizon.

    Examples
    --------
    >>> TrialCost(examples=4000, devices=2, seconds=9.0, basis="measured").device_seconds
    18.0
    """

    examples: int
    """Training examples."""
    devices: int
    """Ranks over all nodes."""
    seconds: float | None
    """Wall-clock time from its start to its end; None while nothing tells it."""
    basis: Basis

    @property
    def device_seconds(self) -> float | None:
        """Time of all its devices."""
        return None if self.seconds is None else self.seconds * self.devices


def weakest(bases: Iterable[Basis]) -> Basis | None:
    """Return the least certain of some bases; None of none.

    Examples
    --------
    >>> weakest(["measured", "beyond", "between"])
    'beyond'
    """
    return max(bases, key=BASES.index, default=None)
