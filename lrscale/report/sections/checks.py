"""All checks of the report with what to do about them."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Table
from lrscale.report.checks import run_checks
from lrscale.report.context import ReportContext
from lrscale.report.words import plural


@final
class ChecksSection(AbstractSection):
    """What fails or warns, with remedies; what passes is folded away."""

    key: ClassVar[str] = "checks"
    title: ClassVar[str] = "Checks"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        return None if run_checks(context) else "There is nothing to check yet: no trial has finished."

    @override
    def compute(self, context: ReportContext) -> Card:
        checks = run_checks(context)
        number = Counter(check.status for check in checks)
        passed = tuple(check for check in checks if check.status == "PASS")
        table = Table(
            key="passed",
            caption="Checks that passed",
            columns=(Column(key="name", label="check"), Column(key="sentence", label="what was seen")),
            rows=tuple({"name": check.name, "sentence": check.sentence} for check in passed),
            open=False,
        )
        return Card(
            key=self.key,
            title=self.title,
            finding=(
                f"{plural(number['FAIL'], 'failure')} and {plural(number['WARNING'], 'warning')} in "
                f"{plural(len(checks), 'check')}."
            ),
            checks=tuple(check for check in checks if check.status != "PASS"),
            tables=(table,) if passed else (),
        )
