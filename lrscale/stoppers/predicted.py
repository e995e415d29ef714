"""A rule that predicts what a trial will come to, and ends it where that is surely above the lowest loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.stoppers.base import STOPPERS, AbstractStopper, Bound, Candidate, Earlier, Judged, require_at_least

ITERATIONS = 12
"""Steps to the bound at most. A deviation rises by about a fifth of what the loss does, so that each step leaves 0.6 of
the way with three deviations, and 0.4 with two."""
CLOSE = 0.01
"""Last step, as a share of the way from the highest loss, at which the bound is known well enough."""
USUAL: tuple[tuple[int, float], ...] = ((5, 1.0), (15, 0.75))
"""Up to which trial the share of the horizon is usually trained. Judgement between what planned trials past the fifth
did: 0.40 to 0.61 on the full grid of digits (59 settings, a factor of 2 apart), 0.45 on synthetic truths whose curves
cross, and all of it in a search over digits whose LRs, a factor of 1.4 apart, differ by no more than the noise."""
LATER = 0.5
"""The share of all trials after those."""

Told = tuple[float, int, float, float]
"""LR, batch size, loss at a validation, and loss at the horizon."""


@final
@STOPPERS.register("predicted")
@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(AbstractStopper):
    """End a trial whose loss at the horizon, predicted from completed trials, is surely above the lowest of theirs.

    At each validation the loss at the horizon is predicted from how far the losses of completed trials fell from there
    on, those of near LRs and batch sizes above all (`lrscale.stoppers.unfinished`), with a standard deviation. A trial
    ends where the prediction is above the lowest loss at the horizon by some of these. So it may end before the LR has
    decayed where the completed trials tell what the decay does, and goes on where they do not; one whose loss is not
    above all of theirs there never ends. Of a trial whose LR is not known nothing is decided.

    Examples
    --------
    >>> def whole(place, away):
    ...     losses = {1: 2.0 + away, 2: 1.5 + away}
    ...     return Earlier(number=place, losses=losses, completed=True, lr=0.01 * 2**place, batch_size=8)
    >>> earlier = [whole(place, away) for place, away in enumerate((0.05, 0.0, 0.05, 0.2))]
    >>> late = {1: 0.5, 2: 1.0}
    >>> bounds = Predicted().bounds(4, earlier, 2, Candidate(lr=0.16, batch_size=8, decayed=late))
    >>> round(bounds[1].loss, 2), bounds[1].among
    (2.61, 4)
    """

    judged: ClassVar[Judged] = "latest"

    deviations: int = 2
    """Standard deviations of the prediction, 1 to 3."""

    def __post_init__(self) -> None:
        require_at_least("deviations", self.deviations, 1)
        if self.deviations > 3:
            raise LrscaleError(f"deviations must be at most 3, not {self.deviations}", hint="or set pruner: none")

    @override
    def bounds(
        self, number: int, earlier: Sequence[Earlier], validations: int, candidate: Candidate | None = None
    ) -> dict[int, Bound]:
        del number
        if candidate is None:
            return {}
        # A recipe names this rule in every command, most of which need no numerics.
        from lrscale.stoppers.unfinished import FEWEST, MOST, Curve, nearest

        whole = [
            Curve(lr=one.lr, batch_size=one.batch_size, losses=one.losses, final=one.losses[validations])
            for one in earlier
            if one.completed and one.lr is not None and one.batch_size is not None and validations in one.losses
        ]
        curves = nearest(Curve(lr=candidate.lr, batch_size=candidate.batch_size, losses={}), whole, len(whole))
        found = {}
        for place in range(1, validations):
            there = [one for one in curves if place in one.losses]
            if len(there) < FEWEST:
                continue
            told = tuple((one.lr, one.batch_size, one.losses[place], one.losses[validations]) for one in there[:MOST])
            highest = max(one.losses[place] for one in there)
            lowest = min(one.losses[validations] for one in there)
            loss = _bound(told, lowest, highest, candidate.lr, candidate.batch_size, self.deviations)
            found[place] = Bound(loss=loss, among=len(there))
        return found

    @override
    def usual_shares(self, trials: int, validations: int) -> list[float] | None:
        shares = [next((share for count, share in USUAL if place < count), LATER) for place in range(trials)]
        return [max(share, 1 / validations) for share in shares]


@lru_cache(maxsize=4096)
def _bound(told: tuple[Told, ...], lowest: float, highest: float, lr: float, batch_size: int, deviations: int) -> float:
    """Return the loss at a validation from which on the one at the horizon is surely above the lowest."""
    from lrscale.stoppers.unfinished import Curve, estimate

    curves = [Curve(lr=one, batch_size=size, losses={0: loss}, final=final) for one, size, loss, final in told]
    at = highest
    for _ in range(ITERATIONS):
        found = estimate(Curve(lr=lr, batch_size=batch_size, losses={0: at}), curves)
        assert found is not None
        step = lowest + deviations * found.sd - found.loss
        at = max(at + step, highest)
        if abs(step) <= CLOSE * (at - highest) or at == highest:
            break
    return at
