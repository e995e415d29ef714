"""The loss at each study's own best LR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, of_difference, untold
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject
from lrscale.laws.minima import minima_difference
from lrscale.recommend.words import count
from lrscale.study.finding import Quantity

if TYPE_CHECKING:
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side
    from lrscale.laws import LRSliceFit


@final
class Loss(AbstractSubject):
    """Difference of the fitted minima, paired by seed, at every common batch and at the best of each."""

    key: ClassVar[str] = "loss"
    title: ClassVar[str] = "Loss at the best LR"
    method: ClassVar[str] = (
        "Each study is taken at its own best LR, by the minimum of its fitted slice. Seeds that both have share "
        "initialisation and example order where task and data are the same, and are compared one by one (Student's t); "
        "the error of both basins' positions is added. The margin is the relative loss that does not matter."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        one, other = a.slices(), b.slices()
        common = sorted(one.keys() & other.keys())
        pairs = [(f"loss at batch {count(size)}", one[size], other[size]) for size in common]
        best = [min((size for size, fit in fits.items() if fit.ok), key=lambda size: _level(fits[size]), default=None)
                for fits in (one, other)]  # fmt: skip
        if best[0] is not None and best[1] is not None and best[0] != best[1]:
            name = f"loss at the best batch of each, {count(best[0])} and {count(best[1])}"
            pairs.append((name, one[best[0]], other[best[1]]))
        return [self._contrast(name, left, right, setup) for name, left, right in pairs]

    def _contrast(self, name: str, a: LRSliceFit, b: LRSliceFit, setup: Setup) -> Contrast:
        values = lowest_loss(a), lowest_loss(b)
        if setup.loss_reason is not None:
            return untold(self.key, name, *values, scale="difference", kind="loss", note=setup.loss_reason)
        if not (a.ok and b.ok):
            why = "the best LR of one of them was not located"
            return untold(self.key, name, *values, scale="difference", kind="loss", note=why)
        margin = setup.tolerance * abs(a.min_loss or 0.0)
        return of_difference(self.key, name, *values, minima_difference(b, a, margin, confidence=a.confidence))


def lowest_loss(fit: LRSliceFit) -> Quantity:
    """Return the fitted loss at the best LR; without a value where it was not located."""
    ends = fit.min_loss_interval
    lo, hi = (None, None) if ends is None else (ends.lo, ends.hi)
    return Quantity(value=fit.min_loss, lo=lo, hi=hi, confidence=fit.confidence)


def _level(fit: LRSliceFit) -> float:
    return float("inf") if fit.min_loss is None else fit.min_loss


SUBJECTS.register(Loss.key)(Loss())
