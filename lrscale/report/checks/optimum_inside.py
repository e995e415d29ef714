"""Whether every optimum lies inside its grid of LRs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import count, finite, listing, plural
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext


@final
class OptimumInsideCheck(AbstractCheck):
    """Look for slices whose lowest loss is at an edge.

    Status Logic
    ------------
    PASS when every batch size has a best LR, FAIL when none has, WARNING otherwise.
    """

    name: ClassVar[str] = "optimum inside the grid"
    covered_by: ClassVar[tuple[str, ...]] = ("optimum inside",)

    @override
    def run(self, context: ReportContext) -> Check | None:
        finding = context.finding("scaling")
        cells = finding.data.get("cells", ()) if finding else ()
        if not cells:
            return None
        outside = [cell for cell in cells if not finite((cell.get("slice") or {}).get("best_lr"))]
        if not outside:
            return Check(
                name=self.name, status="PASS", sentence=f"All {plural(len(cells), 'batch size')} have it inside."
            )
        names = listing(count(cell["batch_size"]) for cell in outside)
        return Check(
            name=self.name,
            status="FAIL" if len(outside) == len(cells) else "WARNING",
            sentence=f"At batch {names} the best LR is not inside the measured range.",
            remedy="Allow more LRs with `--set experiments.scaling.max_learning_rates=16`, or name them with "
            "`experiments.scaling.learning_rates`.",
        )
