"""Smaller batches end at a lower loss after the same examples."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws import LRSliceFit, minima_difference
from lrscale.laws.claim import Claim
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, share_text
from lrscale.study.rules.evidence import Evidence, listed


@final
class FinalLoss(AbstractRule):
    """Relative difference of the fitted minima of the largest and the smallest batch size.

    Each at its own best LR: at a common one the comparison would be one of how well that LR suits each.
    """

    key: ClassVar[str] = "final_loss"
    claim: ClassVar[str] = "Smaller batches end at a lower loss after the same number of examples"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        sizes = list(evidence.located)
        if len(sizes) < 2:
            return Ruling.untold(
                f"{len(sizes)} batch sizes have their best learning rate inside the rates tried, and two are needed.",
                "experiments.scaling.batch_sizes with two sizes or more",
            )
        small, large = sizes[0], sizes[-1]
        claim = _relative(evidence.located[large], evidence.located[small], evidence.margin)
        if claim is None:
            return Ruling.untold(
                f"The losses of batch {small:,} and {large:,} have no interval.", "experiments.scaling.seeds of 3"
            )
        return Ruling(
            claim=claim,
            sentence=f"Batch {large:,} ends {share_text(claim)} from the loss of batch {small:,}, each at its own best "
            "learning rate.",
            effect=f"{share_text(claim)} of the loss",
            margin=f"higher by more than {100 * evidence.margin:g} % of the loss",
            scope=evidence.scope,
            breaks=_breaks(evidence, small),
            needs="experiments.scaling.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="of the loss",
        )


def _relative(a: LRSliceFit, b: LRSliceFit, margin: float) -> Claim | None:
    """Return the claim that the minimum of a lies above that of b by more than a share of it."""
    gap = minima_difference(a, b)
    level = abs(b.min_loss or 0.0)
    se = gap.standard_error
    if gap.value is None or se is None or level == 0:
        return None
    return Claim.of_t(gap.value / level, se / level, gap.df, threshold=margin)


def _breaks(evidence: Evidence, small: int) -> str:
    """Say which larger batch sizes end lower than the smallest, where the seeds tell."""
    lower = []
    for size, fit in evidence.located.items():
        claim = None if size == small else _relative(evidence.located[small], fit, evidence.margin)
        if claim is not None and claim.verdict == "holds":
            lower.append(size)
    return f"batch {listed(lower)} ends lower than batch {small:,}" if lower else ""


RULES.register(FinalLoss.key)(FinalLoss())
