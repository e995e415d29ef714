"""The best peak LR at each batch size that both studies swept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, ratio
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject
from lrscale.recommend.words import count
from lrscale.study.finding import Quantity

if TYPE_CHECKING:
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side
    from lrscale.laws import LRSliceFit


@final
class BestLR(AbstractSubject):
    """Ratio of the best LRs; within the equivalent ranges of both it does not matter."""

    key: ClassVar[str] = "best_lr"
    title: ClassVar[str] = "Best peak LR"
    method: ClassVar[str] = (
        "The interval of a ratio of best LRs is recovered from those of both slices (Zou and Donner 2008), which are "
        "independent fits. The margin is the factor by which either study may miss its best LR at next to no cost: the "
        "narrower side of its range of equivalent LRs, the smaller of the two studies."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        one, other = a.slices(), b.slices()
        return [
            ratio(
                self.key,
                f"best peak LR at batch {count(size)}",
                best_lr(one[size]),
                best_lr(other[size]),
                margin=_margin(one[size], other[size]),
                kind="rate",
                note=_censored(a, one[size]) or _censored(b, other[size]),
            )
            for size in sorted(one.keys() & other.keys())
        ]


def best_lr(fit: LRSliceFit) -> Quantity:
    """Return the best LR of a slice; without a value where its minimum was not located."""
    ends = fit.interval if fit.best_lr is not None else None
    lo, hi = (None, None) if ends is None else (ends.lo, ends.hi)
    return Quantity(value=fit.best_lr, lo=lo, hi=hi, confidence=fit.confidence)


def _margin(a: LRSliceFit, b: LRSliceFit) -> float | None:
    factors = []
    for fit in (a, b):
        if fit.best_lr is None or fit.equivalence is None:
            return None
        lo, hi = fit.equivalence
        factors += [fit.best_lr / lo, hi / fit.best_lr]
    return max(1.0, min(factors))


def _censored(side: Side, fit: LRSliceFit) -> str:
    return "" if fit.ok else f"{side.label}: {fit.reason.rstrip('.')}"


SUBJECTS.register(BestLR.key)(BestLR())
