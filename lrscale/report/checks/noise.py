"""Whether the noise between seeds hides the differences between LRs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import count, finite, significant
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext

TOO_NOISY = 0.5
"""Seed noise over the spread of the LR means from which an optimum is hard to place."""


@final
class NoiseCheck(AbstractCheck):
    """Compare the standard deviation over seeds with that of the means over LRs, batch size by batch size.

    Status Logic
    ------------
    WARNING when at any batch size the noise exceeds half of the spread between LRs, PASS otherwise. Not asked where no
    batch size has two LRs with two seeds each.
    """

    name: ClassVar[str] = "noise against differences"

    @override
    def run(self, context: ReportContext) -> Check | None:
        finding = context.finding("scaling")
        worst: tuple[float, int] | None = None
        for cell in finding.data.get("cells", ()) if finding else ():
            by_lr: defaultdict[float, list[float]] = defaultdict(list)
            for name in cell.get("trials", ()):
                trial = context.view.trials.get(name)
                if trial is not None and finite(trial.record.final_loss):
                    by_lr[trial.spec.peak_lr].append(trial.record.final_loss)
            repeated = [losses for losses in by_lr.values() if len(losses) > 1]
            if len(repeated) < 2:
                continue
            noise = statistics.median(statistics.stdev(losses) for losses in repeated)
            spread = statistics.stdev(statistics.fmean(losses) for losses in repeated)
            ratio = noise / spread if spread > 0 else float("inf")
            if worst is None or ratio > worst[0]:
                worst = (ratio, int(cell["batch_size"]))
        if worst is None:
            return None
        ratio, size = worst
        sentence = (
            f"The noise between seeds is at most {significant(ratio)} times the spread between LRs "
            f"(batch {count(size)})."
        )
        if ratio <= TOO_NOISY:
            return Check(name=self.name, status="PASS", sentence=sentence)
        return Check(
            name=self.name,
            status="WARNING",
            sentence=sentence,
            remedy="Add seeds (`--set experiments.scaling.seeds=5`), or train longer (`experiments.scaling.horizon`).",
        )
