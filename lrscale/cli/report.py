"""``lrscale report``: the page of a study, made anew from its folder."""

from __future__ import annotations

from pathlib import Path

import typer

from lrscale.cli.guard import DONE, faults_logged_in
from lrscale.cli.outputs import open_page, write_page, write_recommendation
from lrscale.cli.study_access import open_study


def make_report(path: Path, *, open_in_browser: bool) -> int:
    """Write ``report.html`` and ``recommendation.yaml`` of a study; a study without an answer has a report too."""
    study = open_study(path)
    with faults_logged_in(path):
        findings = study.findings()
        page = write_page(study, findings, write_recommendation(study, findings))
    typer.echo(str(page))
    if open_in_browser:
        open_page(page)
    return DONE
