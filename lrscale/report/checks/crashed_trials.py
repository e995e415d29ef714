"""Whether trials were lost to anything but divergence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import plural, short
from lrscale.store import Trial
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext

_KINDS = {
    "crashed": "crashed",
    "out_of_memory": "ran out of memory",
    "timed_out": "timed out",
    "stopped": "were stopped",
}


@final
class CrashedTrialsCheck(AbstractCheck):
    """Count trials that crashed, ran out of memory, timed out or ended by themselves.

    Those that were meant to end early do not count: the probes of the memory's end, and what a search has stopped.

    Status Logic
    ------------
    FAIL when more than a quarter of the trials were lost, WARNING when any was, PASS otherwise.
    """

    name: ClassVar[str] = "lost trials"

    @override
    def run(self, context: ReportContext) -> Check | None:
        lost = [trial for trial in context.trials if trial.record.status in _KINDS and not _meant(trial)]
        if not lost:
            return Check(
                name=self.name,
                status="PASS",
                sentence=f"None of {plural(len(context.trials), 'trial')} crashed, ran out of memory or timed out.",
            )
        number = Counter(trial.record.status for trial in lost)
        reason = next((trial.record.reason for trial in lost if trial.record.reason), None)
        sentence = ", ".join(f"{n} {_KINDS[status]}" for status, n in number.most_common())
        sentence = f"Of {plural(len(context.trials), 'trial')}, {sentence}."
        if reason:
            sentence += f" The first said: {short(reason, 300)}"
        return Check(
            name=self.name,
            status="FAIL" if len(lost) > len(context.trials) / 4 else "WARNING",
            sentence=sentence,
            remedy="The log of each stands in its record. Lower `layout.max_per_device_batch_size` for memory; "
            "remove a trial's folder to run it again.",
        )


def _meant(trial: Trial) -> bool:
    if trial.record.ended_by_stopper is not None:
        return True
    return trial.record.status == "out_of_memory" and "memory" in trial.spec.instruments
