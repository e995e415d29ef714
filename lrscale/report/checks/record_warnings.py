"""What trials warned of: layouts that change the answer, modules that do not behave as assumed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import plural, short
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext

_SHOWN = 4


@final
class RecordWarningsCheck(AbstractCheck):
    """Gather the warnings of all records.

    Status Logic
    ------------
    WARNING when any trial warned, PASS otherwise.
    """

    name: ClassVar[str] = "warnings of the trials"

    @override
    def run(self, context: ReportContext) -> Check | None:
        said = Counter(short(text, 400) for trial in context.trials for text in dict.fromkeys(trial.record.warnings))
        if not said:
            return Check(name=self.name, status="PASS", sentence="No trial warned of its module, data or layout.")
        parts = [f"{text.rstrip('.')} ({plural(number, 'trial')})." for text, number in said.most_common(_SHOWN)]
        if len(said) > _SHOWN:
            parts.append(f"And {plural(len(said) - _SHOWN, 'further warning')}.")
        return Check(
            name=self.name,
            status="WARNING",
            sentence=" ".join(parts),
            remedy="Read each one: it names what in the module or the layout departs from what the comparison assumes.",
        )
