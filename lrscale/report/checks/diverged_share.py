"""Whether a large share of the trials diverged."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import percent, plural
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext

TOO_MANY = 0.4
"""Share above which most of the time went into trials that say nothing about the optimum but its upper bound."""


@final
class DivergedShareCheck(AbstractCheck):
    """Count the diverged trials among those at a fixed peak LR.

    Status Logic
    ------------
    FAIL when all diverged, WARNING above 40 %, INFO when any did, PASS when none did.
    """

    name: ClassVar[str] = "diverged trials"

    @override
    def run(self, context: ReportContext) -> Check | None:
        compared = context.trials_where(lambda trial: trial.spec.schedule.name != "ramp" and trial.spec.layout is None)
        if not compared:
            return None
        lost = sum(trial.record.status == "diverged" for trial in compared)
        share = lost / len(compared)
        sentence = f"{lost} of {plural(len(compared), 'trial')} diverged ({percent(share)})."
        if share > TOO_MANY:
            return Check(
                name=self.name,
                status="FAIL" if lost == len(compared) else "WARNING",
                sentence=sentence,
                remedy="Lower the LRs (`experiments.scaling.learning_rates`), lengthen the warm-up "
                "(`experiments.scaling.warmup_fraction`), or clip gradients (`task.trainer.gradient_clip_val`).",
            )
        return Check(name=self.name, status="INFO" if lost else "PASS", sentence=sentence)
