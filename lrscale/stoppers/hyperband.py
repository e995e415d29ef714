"""Hyperband: successive halving in brackets that begin at different rungs."""

from __future__ import annotations

import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override

from lrscale.stoppers.base import STOPPERS, AbstractStopper, Bound, Candidate, Earlier, Judged, require_at_least
from lrscale.stoppers.successive_halving import halving_bounds, rungs

STUDY_NAME = "lrscale"
"""Brackets are drawn by a hash of this name and the number of a trial, as Optuna draws them."""


@final
@STOPPERS.register("hyperband")
@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperband(AbstractStopper):
    """Successive halving within brackets, of which each begins a rung later than the one before.

    How early the losses of two trials can be told apart is not known beforehand: the brackets hedge between ending many
    trials early and none.

    References
    ----------
    .. [1] Li et al. "Hyperband: a novel bandit-based approach to hyperparameter optimization." arXiv:1603.06560 (2016).
       In the form of Optuna's ``HyperbandPruner``, whose brackets are successive halving [2]_.
    .. [2] Li et al. "A system for massively parallel hyperparameter tuning." arXiv:1810.05934 (2018).

    Examples
    --------
    >>> rule = Hyperband()
    >>> [rule.bracket(number, validations=10) for number in range(8)], rule.brackets(10)
    ([0, 0, 1, 2, 0, 0, 1, 1], [9, 5, 3])
    """

    judged: ClassVar[Judged] = "latest"

    reduction_factor: int = 3
    """One of so many passes a rung, and the next rung is at so many times its validations; at least 2."""
    first: int = 1
    """Number of the validation of the first rung of the first bracket, at least 1."""

    def __post_init__(self) -> None:
        require_at_least("reduction_factor", self.reduction_factor, 2)
        require_at_least("first", self.first, 1)

    @override
    def bounds(
        self, number: int, earlier: Sequence[Earlier], validations: int, candidate: Candidate | None = None
    ) -> dict[int, Bound]:
        del candidate
        own = self.bracket(number, validations)
        beside = [one for one in earlier if self.bracket(one.number, validations) == own]
        first = self.first * self.reduction_factor**own
        return halving_bounds(beside, rungs(first, self.reduction_factor, validations), self.reduction_factor)

    def brackets(self, validations: int) -> list[int]:
        """Return the weight of each bracket, in the order of their first rungs."""
        if validations <= self.first:
            return [1]
        count = math.floor(math.log(validations / self.first, self.reduction_factor)) + 1
        lengths = range(count, 0, -1)
        return [math.ceil(count * self.reduction_factor ** (length - 1) / length) for length in lengths]

    def bracket(self, number: int, validations: int) -> int:
        """Return the bracket of a trial, from 0."""
        weights = self.brackets(validations)
        drawn = binascii.crc32(f"{STUDY_NAME}_{number}".encode()) % sum(weights)
        for place, weight in enumerate(weights):
            drawn -= weight
            if drawn < 0:
                return place
        raise AssertionError("a remainder is smaller than the sum")
