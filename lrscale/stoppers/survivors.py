"""A rule that knows of the learning rate and of its schedule, and leaves every slice what its fit needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.stoppers.base import STOPPERS, AbstractStopper, Bound, Candidate, Earlier, Judged, require_at_least


@final
@STOPPERS.register("survivors")
@dataclass(frozen=True, slots=True, kw_only=True)
class Survivors(AbstractStopper):
    """End a trial late in the decay, behind completed trials on the same side of the best LR that it is worse than.

    Before the LR has decayed, losses rank a low LR and a small batch better than they end: what the decay brings down
    is still in them. So trials are compared at an equal share of the decay, from half of it on, and with trials of the
    same batch size alone. A trial may end there once so many others of its side of the best LR, all nearer to it, have
    completed: these survivors are what the vertex of a slice is fitted to. It ends when its loss is above all of
    theirs, as on a slice that goes on rising outwards. Of a trial whose LR is not known nothing is decided.

    Examples
    --------
    >>> earlier = [
    ...     Earlier(number=place, losses={8: 1.0 + (lr / 0.01 - 1) ** 2}, completed=True, lr=lr, batch_size=64)
    ...     for place, lr in enumerate((0.005, 0.01, 0.015, 0.02))
    ... ]
    >>> late = {place: place / 10 for place in range(1, 11)}
    >>> Survivors().bounds(4, earlier, 10, Candidate(lr=0.04, batch_size=64, decayed=late))
    {8: Bound(loss=2.0, among=4)}
    >>> Survivors().bounds(4, earlier, 10, Candidate(lr=0.0025, batch_size=64, decayed=late))
    {}
    """

    judged: ClassVar[Judged] = "latest"

    keep: int = 2
    """Completed trials on a side of the best LR before one beyond them may end, at least 1."""
    decayed: int = 50
    """Percentage of the decay that is over before a trial may end, 1 to 99."""

    def __post_init__(self) -> None:
        require_at_least("keep", self.keep, 1)
        require_at_least("decayed", self.decayed, 1)
        if self.decayed > 99:
            raise LrscaleError(f"decayed must be at most 99, not {self.decayed}", hint="a complete trial cannot end")

    @override
    def bounds(
        self, number: int, earlier: Sequence[Earlier], validations: int, candidate: Candidate | None = None
    ) -> dict[int, Bound]:
        del number
        if candidate is None:
            return {}
        found = {}
        for place in range(1, validations):
            if candidate.decayed.get(place, 0.0) * 100 < self.decayed:
                continue
            there = [
                (one.lr, one.losses[place], one.completed)
                for one in earlier
                if one.batch_size == candidate.batch_size and one.lr is not None and place in one.losses
            ]
            bound = self._bound(there, candidate.lr)
            if bound is not None:
                found[place] = Bound(loss=bound, among=len(there))
        return found

    def _bound(self, there: Sequence[tuple[float, float, bool]], lr: float) -> float | None:
        complete = [(other, loss) for other, loss, completed in there if completed]
        if not complete:
            return None
        best = min(complete, key=lambda one: (one[1], one[0]))[0]
        # Of several trials at one LR the best stands for it: a bound that is too high ends too few.
        nearer: dict[float, float] = {}
        for other, loss in complete:
            if (best < other < lr) if lr > best else (lr < other < best):
                nearer[other] = max(loss, nearer.get(other, loss))
        return max(nearer.values()) if len(nearer) >= self.keep else None
