"""Whether all trials have reached the loggers that the recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.words import plural, short
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext


@final
class LoggersCheck(AbstractCheck):
    """Count the trials that a logger has not got.

    Status Logic
    ------------
    WARNING when a logger refused one, INFO otherwise. Not asked where the recipe names no logger, and of no trial that
    is still to be logged.
    """

    name: ClassVar[str] = "loggers"

    @override
    def run(self, context: ReportContext) -> Check | None:
        if not context.logged:
            return None
        parts, missed = [], False
        for one in context.logged:
            told = f"{one.label} has {len(one.done)} of {plural(len(context.trials), 'trial')}"
            if one.failed:
                missed = True
                told += f"; it said: {short(next(iter(one.failed.values())), 300).rstrip('.')}"
            parts.append(f"{told}.")
        return Check(
            name=self.name,
            status="WARNING" if missed else "INFO",
            sentence=" ".join(parts),
            remedy="No trial is lost by it. `lrscale run` tries again what is missing." if missed else None,
        )
