"""Whether the rules of thumb hold on this model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Table
from lrscale.report.context import ReportContext
from lrscale.report.words import finite, significant

VERDICTS = (
    Column(key="claim", label="rule"),
    Column(key="verdict", label="verdict", kind="status"),
    Column(key="effect", label="effect (95 %)"),
    Column(key="jointly", label="all together"),
    Column(key="breaks", label="where it ends"),
)
SEEN = (
    Column(key="claim", label="rule"),
    Column(key="sentence", label="what was seen"),
    Column(key="margin", label="it holds for"),
    Column(key="p", label="p of the margin"),
    Column(key="scope", label="stands on"),
)
NEEDED = (Column(key="claim", label="rule"), Column(key="sentence", label="why"), Column(key="needs", label="add"))


@final
class RulesSection(AbstractSection):
    """A table of the rules with their verdicts, what was seen for each, and what the untold ones would take."""

    key: ClassVar[str] = "rules"
    title: ClassVar[str] = "Do the rules of thumb hold here?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        if context.finding("rules") is None:
            return "The rules of thumb were not asked for: `experiments.rules: {}` judges them without a trial more."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("rules")
        assert finding is not None
        rows = [_shown(row) for row in finding.tables.get("rules", ())]
        tested = tuple(row for row in rows if finite(row.get("value")))
        untold = tuple(row for row in rows if row.get("verdict") == "cannot tell")
        tables = [Table(key="rules", caption="Rules of thumb on this model", columns=VERDICTS, rows=tuple(rows))]
        if tested:
            tables.append(Table(key="seen", caption="What was seen", columns=SEEN, rows=tested, open=False))
        if untold:
            tables.append(
                Table(key="needed", caption="What would tell the others", columns=NEEDED, rows=untold, open=False)
            )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            tables=tuple(tables),
            method=(
                "Each rule is put as an effect that must exceed a margin. It holds where the whole 95 % interval lies "
                "beyond the margin, does not where it lies short of it, and cannot be told otherwise: two one-sided "
                "tests at 2.5 % each, so that an effect at the margin itself gets a false verdict in 5 % of studies. "
                '"All together" says which verdicts stand when the chance of any false one in the table is 5 % '
                "(Holm 1979). Losses are compared seed by seed with Student's t, powers and costs of the learning rate "
                "by draws from the fitted laws and slices, speeds by the errors of their step times.\n\n"
                "Generalisation is judged by the slope of the gap between validation and training loss at the best "
                "learning rate, where the validation loss does not change to first order: far below it a small gap "
                "says only that little was fitted. The early loss is a training loss before the update, after the "
                "warm-up of every batch size compared; by the example at equal shares of the schedule, by the step not."
            ),
        )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    told = row.get("verdict") in ("holds", "does not hold")
    return {
        **row,
        "jointly": ("stands" if row.get("jointly") else "falls") if told else "",
        "p": significant(row.get("p_value")) if finite(row.get("p_value")) else "",
    }
