"""Growing the batch equals decaying the learning rate."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws import Difference
from lrscale.laws.claim import Claim
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, share_text
from lrscale.study.rules.evidence import Evidence
from lrscale.study.words import number


@final
class GrowingBatch(AbstractRule):
    """Relative difference of the final losses with a growing batch and with a decaying LR, each at its own best LR.

    Smith et al. 2018, arXiv:1711.00489. Equal is what differs by no more than the margin, in either direction.
    """

    key: ClassVar[str] = "growing_batch"
    claim: ClassVar[str] = "Growing the batch equals decaying the learning rate"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        found = evidence.context.findings.get("growing_batch")
        if found is None:
            return Ruling.untold("No trial of this study grows its batch.", "experiments.growing_batch: {}")
        plain = found.data.get("difference")
        gap = None if plain is None else Difference.from_dict(plain)
        rows = {row["what"]: row for row in found.data.get("rows", ())}
        level = abs(rows.get("decaying LR", {}).get("loss") or 0.0)
        se = None if gap is None else gap.standard_error
        if gap is None or gap.value is None or se is None or level == 0:
            return Ruling.untold(
                "The growing batch or the decaying learning rate has no best peak inside the rates tried.",
                "experiments.growing_batch.seeds of 3 or more, or max_learning_rates raised",
            )
        claim = Claim.of_equality(gap.value / level, se / level, gap.df, margin=evidence.margin)
        shown = share_text(Claim.of_t(gap.value / level, se / level, gap.df))
        grown = rows["growing batch"]
        return Ruling(
            claim=claim,
            sentence=f"Growing the batch from {found.data['batch_size']:,} to {grown['largest_batch']:,} in place of "
            f"{found.data['schedule']} ends {shown} from the loss of the decaying learning rate, each at its own best "
            f"peak, in {number(grown['steps'], 3)} steps instead of {number(rows['decaying LR']['steps'], 3)}.",
            effect=f"{shown} of the loss",
            margin=f"a difference within {100 * evidence.margin:g} % of the loss",
            scope=f"{gap.n_pairs} paired seeds, {grown['examples']:,} examples",
            needs="experiments.growing_batch.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="of the loss",
        )


RULES.register(GrowingBatch.key)(GrowingBatch())
