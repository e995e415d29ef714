"""What a check of the report is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext
    from lrscale.study.finding import Check


class AbstractCheck(ABC):
    """One question about the health of a study, answered as PASS, WARNING, FAIL or INFO with a remedy."""

    name: ClassVar[str]
    """What is checked, in a few words; one of the same name from a finding stands in its place."""

    covered_by: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of other checks that answer the same question; with any of them it is not asked again."""

    @abstractmethod
    def run(self, context: ReportContext) -> Check | None:
        """Return the answer, or None where the question does not arise."""
