"""Health checks of a study: one file each, gathered with those of the findings."""

from lrscale.report.checks.gather import run_checks as run_checks
