"""How the best LR grows with the batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, difference
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject
from lrscale.recommend.words import count
from lrscale.study.finding import Quantity
from lrscale.study.lr_answer import slope_at

if TYPE_CHECKING:
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side

MARGIN = 0.1
"""Difference of exponents that does not matter: over a factor of 4 in batch it moves the LR by 15 %."""


@final
class LRGrowth(AbstractSubject):
    """Difference of the laws' local exponents in the middle of the batch sizes that both cover."""

    key: ClassVar[str] = "lr_growth"
    title: ClassVar[str] = "Growth of the LR with the batch"
    method: ClassVar[str] = (
        "The exponent is d log LR / d log batch of the fitted law (linear rule 1, square root 1/2), at the geometric "
        "middle of the batch sizes that both studies cover. Exponents within 0.1 count as equal: over a factor of 4 in "
        "batch that moves the LR by 15 %."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        laws = a.law(), b.law()
        sizes = [sorted(size for size, fit in side.slices().items() if fit.ok) for side in (a, b)]
        if laws[0] is None or laws[1] is None or not all(sizes):
            return []
        low, high = max(own[0] for own in sizes), min(own[-1] for own in sizes)
        if low > high:
            return []
        middle = math.sqrt(low * high)
        values = []
        for law in (laws[0], laws[1]):
            value, lo, hi = slope_at(law, middle)
            values.append(Quantity(value=value, lo=lo, hi=hi, confidence=law.confidence))
        name = f"exponent of the best LR in the batch, around {count(round(middle))}"
        return [difference(self.key, name, *values, margin=MARGIN)]


SUBJECTS.register(LRGrowth.key)(LRGrowth())
