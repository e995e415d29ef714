"""Whether seeds are enough to tell noise from effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import plural
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext

ENOUGH = 3
"""Seeds from which a standard deviation means something: with two, its 95 % interval spans a factor of 70."""


@final
class SeedsCheck(AbstractCheck):
    """Count the seeds of the compared trials.

    Status Logic
    ------------
    FAIL for one seed, WARNING for two, PASS from three.
    """

    name: ClassVar[str] = "seeds"

    @override
    def run(self, context: ReportContext) -> Check | None:
        compared = context.trials_where(lambda trial: trial.spec.schedule.name != "ramp" and trial.spec.layout is None)
        if not compared:
            return None
        seeds = len({trial.spec.seed for trial in compared})
        if seeds >= ENOUGH:
            return Check(name=self.name, status="PASS", sentence=f"{plural(seeds, 'seed')} at each setting.")
        sentence = (
            "One seed cannot tell noise from effect; intervals rest on the scatter around the fits alone."
            if seeds == 1
            else "Two seeds give a rough idea of the noise only."
        )
        return Check(
            name=self.name,
            status="WARNING" if seeds == 2 else "FAIL",
            sentence=sentence,
            remedy="Run again with `--set experiments.scaling.seeds=3`; only the missing trials run.",
        )
