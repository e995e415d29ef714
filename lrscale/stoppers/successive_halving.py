"""Asynchronous successive halving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.stoppers.base import STOPPERS, AbstractStopper, Bound, Candidate, Earlier, Judged, require_at_least


@final
@STOPPERS.register("successive_halving")
@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessiveHalving(AbstractStopper):
    """Let the best part of the trials pass each rung; rungs are validations a constant factor apart.

    References
    ----------
    .. [1] Li et al. "A system for massively parallel hyperparameter tuning" (ASHA). arXiv:1810.05934 (2018). In the
       form of Optuna's ``SuccessiveHalvingPruner``, where a trial that is not among the best of those that have come to
       a rung so far ends there for good; before there are as many as the factor, only the best one passes.

    Examples
    --------
    >>> earlier = [Earlier(number=place, losses={1: 2.0 + place}, completed=False) for place in range(8)]
    >>> SuccessiveHalving(reduction_factor=3).bounds(8, earlier, validations=10)
    {1: Bound(loss=4.0, among=8)}
    """

    judged: ClassVar[Judged] = "latest"

    reduction_factor: int = 4
    """One of so many passes a rung, and the next rung is at so many times its validations; at least 2."""
    first: int = 1
    """Number of the validation of the first rung, at least 1."""

    def __post_init__(self) -> None:
        require_at_least("reduction_factor", self.reduction_factor, 2)
        require_at_least("first", self.first, 1)

    @override
    def bounds(
        self, number: int, earlier: Sequence[Earlier], validations: int, candidate: Candidate | None = None
    ) -> dict[int, Bound]:
        del number, candidate
        return halving_bounds(earlier, rungs(self.first, self.reduction_factor, validations), self.reduction_factor)


def rungs(first: int, factor: int, validations: int) -> Iterator[int]:
    """Yield the validations of the rungs before the horizon."""
    while first < validations:
        yield first
        first *= factor


def halving_bounds(earlier: Sequence[Earlier], places: Iterator[int], factor: int) -> dict[int, Bound]:
    """Return the bounds at some rungs, so that a trial passes which is among the best of ``1 / factor`` with itself."""
    found = {}
    for place in places:
        losses = sorted(one.losses[place] for one in earlier if place in one.losses)
        passing = max((len(losses) + 1) // factor, 1)
        # The trial itself is one of those that pass, so that with fewer others than that every loss does.
        if passing <= len(losses):
            found[place] = Bound(loss=losses[passing - 1], among=len(losses))
    return found
