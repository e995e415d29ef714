"""The median rule."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.stoppers.base import STOPPERS, AbstractStopper, Bound, Candidate, Earlier, Judged, require_at_least


@final
@STOPPERS.register("median")
@dataclass(frozen=True, slots=True, kw_only=True)
class Median(AbstractStopper):
    """End a trial whose best loss so far is above the median of what completed trials had at the same validation.

    References
    ----------
    .. [1] Golovin et al. "Google Vizier: a service for black-box optimization." KDD 2017, section 3.2.1. In the form of
       Optuna's ``MedianPruner``, which compares with the losses at the validation, not with their running means.

    Examples
    --------
    >>> earlier = [Earlier(number=place, losses={1: 2.0 + place, 2: 1.0}, completed=True) for place in range(5)]
    >>> Median().bounds(5, earlier, validations=2)
    {1: Bound(loss=4.0, among=5)}
    """

    judged: ClassVar[Judged] = "best"

    startup: int = 5
    """Completed trials before any is ended, at least 1."""
    first: int = 1
    """Number of the first validation at which a trial may end, at least 1."""

    def __post_init__(self) -> None:
        require_at_least("startup", self.startup, 1)
        require_at_least("first", self.first, 1)

    @override
    def bounds(
        self, number: int, earlier: Sequence[Earlier], validations: int, candidate: Candidate | None = None
    ) -> dict[int, Bound]:
        del number, candidate
        completed = [one for one in earlier if one.completed]
        if len(completed) < self.startup:
            return {}
        found = {}
        for place in range(self.first, validations):
            losses = [one.losses[place] for one in completed if place in one.losses]
            if losses:
                found[place] = Bound(loss=statistics.median(losses), among=len(losses))
        return found
