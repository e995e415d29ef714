"""All checks of a report, the most serious first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.checks.crashed_trials import CrashedTrialsCheck
from lrscale.report.checks.diverged_share import DivergedShareCheck
from lrscale.report.checks.loggers import LoggersCheck
from lrscale.report.checks.noise import NoiseCheck
from lrscale.report.checks.optimum_inside import OptimumInsideCheck
from lrscale.report.checks.record_warnings import RecordWarningsCheck
from lrscale.report.checks.seeds import SeedsCheck
from lrscale.report.checks.spikes import SpikesCheck

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext
    from lrscale.study.finding import Check

CHECKS: tuple[AbstractCheck, ...] = (
    SeedsCheck(),
    OptimumInsideCheck(),
    DivergedShareCheck(),
    SpikesCheck(),
    NoiseCheck(),
    RecordWarningsCheck(),
    CrashedTrialsCheck(),
    LoggersCheck(),
)
"""The report's own checks, in order."""

_ORDER = ("FAIL", "WARNING", "INFO", "PASS")


def run_checks(context: ReportContext) -> tuple[Check, ...]:
    """Return the checks of the findings, then the report's own, sorted by how serious they are.

    A check that raises becomes a warning about itself.
    """
    from lrscale.study.finding import Check

    found = [check for finding in context.findings for check in finding.checks]
    for plain in context.recommended("checks") or ():
        found.append(plain if isinstance(plain, Check) else Check(**plain))
    names = {check.name for check in found}
    for check in CHECKS:
        covered = any(name == check.name or name.startswith(check.covered_by) for name in names)
        if covered or not context.trials:
            continue
        try:
            answer = check.run(context)
        except Exception as error:  # a broken check must not hide the others
            answer = Check(
                name=check.name, status="WARNING", sentence=f"could not be run: {type(error).__name__}: {error}"
            )
        if answer is not None:
            found.append(answer)
    unique = {(check.name, check.sentence): check for check in found}
    return tuple(sorted(unique.values(), key=lambda check: _ORDER.index(check.status)))
