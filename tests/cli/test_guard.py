from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from lrscale.cli.guard import DONE, FAULT, INTERRUPTED, NO, WRONG_USE, GuardedGroup, faults_logged_in
from lrscale.errors import InterruptedStudyError, LrscaleError, TrialsFailedError


def invoke(error: BaseException, folder: Path | None = None) -> Result:
    app = typer.Typer(cls=GuardedGroup, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

    @app.callback()
    def main() -> None: ...

    @app.command("act")
    def act() -> None:
        if folder is None:
            raise error
        with faults_logged_in(folder):
            raise error

    return CliRunner().invoke(app, ["act"])


def test_misuse_is_a_message_and_a_hint_without_a_traceback() -> None:
    result = invoke(LrscaleError("batch 96 does not divide", hint="use 128"))
    assert result.exit_code == WRONG_USE
    assert result.stderr == "error: batch 96 does not divide\nhint: use 128\n"
    assert result.stdout == ""


def test_each_error_ends_with_its_own_code() -> None:
    assert invoke(TrialsFailedError("none of 6 trials completed")).exit_code == 3
    interrupted = invoke(InterruptedStudyError("4 trials are kept", hint="go on with: lrscale run x"))
    assert interrupted.exit_code == INTERRUPTED
    assert interrupted.stderr == "interrupted: 4 trials are kept\nhint: go on with: lrscale run x\n"
    assert invoke(KeyboardInterrupt()).exit_code == INTERRUPTED
    assert invoke(typer.Exit(NO)).exit_code == NO
    assert invoke(typer.Exit(DONE)).exit_code == DONE


def test_an_unexpected_error_is_short_and_names_the_log(tmp_path: Path) -> None:
    result = invoke(RuntimeError("boom"), tmp_path)
    log = tmp_path / "error.log"
    assert result.exit_code == FAULT
    assert result.stderr == (
        f"error: unexpected RuntimeError: boom\nhint: this is a fault of lrscale; the traceback is in {log}\n"
    )
    assert "Traceback" in log.read_text()


def test_without_a_study_the_log_is_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = invoke(RuntimeError("boom"))
    (log,) = tmp_path.iterdir()
    assert str(log) in result.stderr
    assert "raise error" in log.read_text()


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRSCALE_DEBUG", "1")
    result = invoke(LrscaleError("no"))
    assert result.exit_code == WRONG_USE
    assert "Traceback" in result.stderr
    monkeypatch.setenv("LRSCALE_DEBUG", "0")
    assert "Traceback" not in invoke(LrscaleError("no")).stderr


def test_wrong_use_of_the_command_line_is_code_2_in_plain_ascii() -> None:
    for arguments in (["rnu"], ["run"], ["run", "digits", "--devices", "0"], ["run", "digits", "--depth"], []):
        ended = subprocess.run([sys.executable, "-m", "lrscale", *arguments], capture_output=True, text=True)
        assert ended.returncode == WRONG_USE, arguments
        assert ended.stderr.isascii()
        assert "Traceback" not in ended.stderr
        assert "Usage: lrscale" in ended.stderr + ended.stdout
