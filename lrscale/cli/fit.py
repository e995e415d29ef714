"""``lrscale fit``: the laws of a table of finished runs, or of a study, without running anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import typer

from lrscale.cli.guard import DONE, NO, faults_logged_in
from lrscale.cli.text import wrapped
from lrscale.errors import LrscaleError, StudyError, did_you_mean

if TYPE_CHECKING:
    from lrscale.sweep import CurvesTableFit, StepsTableFit, SweepFit, SweepTable
    from lrscale.sweep.clean import BatchUnit

FITS = "fits.json"
_PAGE_MARK = b"<footer><p>Made by lrscale "


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequest:
    """What ``lrscale fit`` was asked."""

    path: Path
    kind: str | None = None
    """What a row is: runs, steps or curves; None: to be seen from the columns."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role to column, as named by flags."""
    by: tuple[str, ...] = ()
    batch_unit: str | None = None
    drop_bad: bool = False
    reference_batch: float | None = None
    report: Path | None = None
    out: Path | None = None
    holdout: str | None = None
    confidence: float | None = None
    tolerance: float | None = None

    @property
    def for_tables(self) -> list[str]:
        """Flags given that mean nothing for a study."""
        given = [f"--{role.replace('_', '-')}" for role in self.columns]
        flags = {
            "--kind": self.kind,
            "--reference-batch": self.reference_batch,
            "--by": self.by,
            "--batch-unit": self.batch_unit,
            "--drop-bad": self.drop_bad,
            "--report": self.report,
            "--out": self.out,
            "--holdout": self.holdout,
            "--confidence": self.confidence,
            "--tolerance": self.tolerance,
        }
        return given + [flag for flag, value in flags.items() if value not in (None, False, ())]

    def refuse_for(self, kind: str) -> None:
        """Raise for a flag that means nothing for a kind of table."""
        flags: dict[str, dict[str, object]] = {
            "runs": {"--reference-batch": self.reference_batch},
            "steps": {"--tolerance": self.tolerance},
            "curves": {
                "--tolerance": self.tolerance,
                "--batch-unit": self.batch_unit,
                "--reference-batch": self.reference_batch,
            },
        }
        given = [flag for flag, value in flags[kind].items() if value is not None]
        if given:
            raise LrscaleError(f"{', '.join(given)} means nothing for a table of {kind}", hint="leave it out")


def fit_path(request: TableRequest) -> int:
    """Fit a study when the path is a folder, else a table; return 1 when nothing could be fitted."""
    return _fit_study(request) if request.path.is_dir() else _fit_table(request)


def _fit_study(request: TableRequest) -> int:
    from lrscale.cli.study_access import open_study
    from lrscale.study import Study

    if request.for_tables:
        raise LrscaleError(
            f"{', '.join(request.for_tables)}: only for tables, and {request.path} is a folder",
            hint="a study's recipe says what is fitted; `lrscale report` writes its page",
        )
    study = open_study(request.path)
    with faults_logged_in(request.path):
        findings = study.findings()
        fits = Study(study.recipe, study.folder).write_fits(findings)
    for finding in findings:
        typer.echo(wrapped(f"{finding.key}: {finding.sentence}", indent="  ", first=""))
    typer.echo(f"fits: {fits}")
    return DONE if any(finding.status == "ok" for finding in findings) else NO


def _fit_table(request: TableRequest) -> int:
    from lrscale.store.files import to_json, write_atomically
    from lrscale.sweep import read_table, table_kind

    _unit(request.batch_unit)
    fits = request.out if request.out is not None else _fits_home(request) / FITS
    # Before minutes of fitting, not after.
    _check_free(fits, request, is_page=False)
    if request.report is not None:
        _check_free(request.report, request, is_page=True)
        if request.report.resolve() == fits.resolve():
            raise LrscaleError(f"--report and --out both name {fits}", hint="name two files")
    table = read_table(request.path)
    kind, guess = table_kind(table.frame, request.columns, request.kind, request.by)
    request.refuse_for(kind)
    answer = {"runs": _answer_runs, "steps": _answer_steps, "curves": _answer_curves}[kind](table, request)
    fit = answer.fit
    try:
        # Before a word is printed: a reader that closes the pipe, as `head` does, must not cost the files.
        write_atomically(fits, to_json(fit.to_dict()))
        if request.report is not None:
            write_atomically(request.report, answer.page())
    except StudyError as error:
        raise LrscaleError(error.message, hint="free space, or write elsewhere with --out and --report") from error
    told = [*([] if guess is None else [guess]), *answer.lines, f"fits: {fits}"]
    for line in [*told, *([] if request.report is None else [f"report: {request.report}"])]:
        typer.echo(_ascii(line))
    return DONE if fit.ok else NO


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    fit: SweepFit | StepsTableFit | CurvesTableFit
    lines: list[str]
    page: Callable[[], str]
    """Makes the report."""


def _answer_runs(table: SweepTable, request: TableRequest) -> _Answer:
    from lrscale.cli.fit_summary import summary_lines
    from lrscale.report.table import render_table_report
    from lrscale.sweep import analyse_table

    fit, runs = analyse_table(
        table,
        columns=request.columns,
        by=request.by,
        batch_unit=_unit(request.batch_unit),
        drop_bad=request.drop_bad,
        holdout=request.holdout,
        confidence=0.95 if request.confidence is None else request.confidence,
        tolerance=1e-3 if request.tolerance is None else request.tolerance,
    )
    return _Answer(fit=fit, lines=summary_lines(fit), page=lambda: render_table_report(fit, runs))


def _answer_steps(table: SweepTable, request: TableRequest) -> _Answer:
    from lrscale.cli.fit_summary import law_lines
    from lrscale.report.table import render_steps_report
    from lrscale.sweep import analyse_steps_table

    if request.holdout not in (None, "largest"):
        raise LrscaleError(f"unknown holdout {request.holdout}", hint="use largest, which is always reported")
    fit = analyse_steps_table(
        table,
        columns=request.columns,
        by=request.by,
        batch_unit=_unit(request.batch_unit),
        drop_bad=request.drop_bad,
        reference_batch=request.reference_batch,
        confidence=0.95 if request.confidence is None else request.confidence,
    )
    return _Answer(fit=fit, lines=law_lines(fit), page=lambda: render_steps_report(fit))


def _answer_curves(table: SweepTable, request: TableRequest) -> _Answer:
    from lrscale.cli.fit_summary import law_lines
    from lrscale.report.table import render_curves_report
    from lrscale.sweep import analyse_curves_table

    fit = analyse_curves_table(
        table,
        columns=request.columns,
        by=request.by,
        drop_bad=request.drop_bad,
        holdout=request.holdout,
        confidence=0.95 if request.confidence is None else request.confidence,
    )
    return _Answer(fit=fit, lines=law_lines(fit), page=lambda: render_curves_report(fit))


def _fits_home(request: TableRequest) -> Path:
    # Beside the table would write into folders that people share and keep read-only.
    return request.report.parent if request.report is not None else Path()


def _unit(name: str | None) -> BatchUnit | None:
    from lrscale.sweep.clean import BATCH_UNITS

    if name is None:
        return None
    for unit in BATCH_UNITS:
        if unit == name:
            return unit
    raise LrscaleError(f"unknown batch unit {name}", hint=did_you_mean(name, BATCH_UNITS))


def _ascii(text: str) -> str:
    return text.encode("ascii", errors="replace").decode("ascii")


def _check_free(path: Path, request: TableRequest, *, is_page: bool) -> None:
    """Refuse to write where something lies that an earlier fit of this table did not write."""
    flag = "--report" if is_page else "--out"
    if not path.parent.is_dir():
        raise LrscaleError(f"there is no folder {path.parent} for {path.name}", hint=f"make it, or change {flag}")
    if path.is_dir():
        raise LrscaleError(f"{path} is a folder", hint=f"name a file with {flag}")
    if not path.exists():
        return
    if path.resolve() == request.path.resolve():
        raise LrscaleError(f"{path} is the table itself", hint=f"name another file with {flag}")
    if not (_is_our_page(path) if is_page else _is_our_fits(path, request.path.name)):
        raise LrscaleError(
            f"{path} is there already and no {'report of lrscale' if is_page else f'fits of {request.path.name}'}",
            hint=f"name another file with {flag}, or move it away",
        )


def _is_our_page(path: Path) -> bool:
    try:
        return _PAGE_MARK in path.read_bytes()
    except OSError:
        return False


def _is_our_fits(path: Path, table: str) -> bool:
    from lrscale.sweep.result import FORMAT

    try:
        found = json.loads(path.read_bytes())
        return bool(found["format"] == FORMAT and found["source"]["file"] == table)
    except (OSError, ValueError, LookupError, TypeError):
        return False
