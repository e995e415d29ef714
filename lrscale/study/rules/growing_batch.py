"""Growing the batch equals decaying the learning rate."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.study.rules.base import RULES, AbstractRule, Ruling
from lrscale.study.rules.evidence import Evidence


@final
class GrowingBatch(AbstractRule):
    """Relative difference of the final losses with a growing batch and with a decaying LR.

    Smith et al. 2018, arXiv:1711.00489.
    """

    key: ClassVar[str] = "growing_batch"
    claim: ClassVar[str] = "Growing the batch equals decaying the learning rate"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        del evidence
        return Ruling.untold(
            "No trial of this study grows its batch.",
            "trials whose batch grows where the learning rate of others falls",
        )


RULES.register(GrowingBatch.key)(GrowingBatch())
