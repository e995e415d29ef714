"""How a command ends: what people read when it fails, and the exit code.

====  =========================================================================
code  meaning
====  =========================================================================
0     done
1     the answer is no: no setting can be recommended, or a check failed
2     wrong use: the message says what is wrong and what to do
3     trials failed: too few succeeded to answer, or some were lost and the same command tries them again
70    a fault of lrscale itself; the traceback is in the named file (EX_SOFTWARE of BSD's sysexits.h)
130   interrupted; the same command goes on
====  =========================================================================
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import typer
from typer.core import TyperGroup

from lrscale.errors import LrscaleError

DONE, NO, WRONG_USE, TRIALS_FAILED, FAULT, INTERRUPTED = 0, 1, 2, 3, 70, 130
DEBUG_VARIABLE = "LRSCALE_DEBUG"


@final
class FaultError(Exception):
    """An error that lrscale did not expect, with the file that holds its traceback."""

    def __init__(self, error: Exception, log: Path | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.log = log


@final
class GuardedGroup(TyperGroup):
    """Turns every error of a command into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `ctx` is typer's context, whose class moved between typer's versions."""
        try:
            return super().invoke(ctx)
        except LrscaleError as error:
            _show_traceback_when_debugging()
            show_error(error.message, error.hint, word="interrupted" if error.exit_code == INTERRUPTED else "error")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            _show_traceback_when_debugging()
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # The reader, such as `head`, has what it wanted. The descriptor is pointed at nothing so that the
            # interpreter's last flush does not fail too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(DONE) from error
        except FaultError as error:
            _show_fault(error)
            raise typer.Exit(FAULT) from error
        except Exception as error:
            # typer's own exceptions (wrong use, exit) are part of its protocol and go on to typer.
            if type(error).__module__.split(".")[0] in ("typer", "click"):
                raise
            _show_fault(FaultError(error, write_log(error, None)))
            raise typer.Exit(FAULT) from error


@contextmanager
def faults_logged_in(folder: Path) -> Iterator[None]:
    """Keep the traceback of an unexpected error in `folder`, the study's, where people look for it."""
    try:
        yield
    except (LrscaleError, FaultError, typer.Exit):
        raise
    except Exception as error:
        raise FaultError(error, write_log(error, folder)) from error


def show_error(message: str, hint: str | None, *, word: str = "error") -> None:
    """Print a message, and below it the remedy, to stderr."""
    typer.echo(f"{word}: {message}", err=True)
    if hint is not None:
        typer.echo(f"hint: {hint}", err=True)


def write_log(error: Exception, folder: Path | None) -> Path | None:
    """Write the traceback to ``error.log`` in `folder`, else in the folder for temporary files.

    Returns
    -------
    Path or None
        The file; None when neither folder can be written.
    """
    text = "".join(traceback.format_exception(error))
    if folder is not None and folder.is_dir():
        path = folder / "error.log"
        try:
            path.write_text(text, encoding="utf-8")
            return path
        except OSError:
            pass
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="lrscale-error-", suffix=".log", delete=False, encoding="utf-8"
        ) as stream:
            stream.write(text)
            return Path(stream.name)
    except OSError:
        return None


def _show_fault(fault: FaultError) -> None:
    _show_traceback_when_debugging()
    what = f"{type(fault.error).__name__}: {fault.error}" if str(fault.error) else type(fault.error).__name__
    where = f"the traceback is in {fault.log}" if fault.log else f"set {DEBUG_VARIABLE}=1 to see the traceback"
    show_error(f"unexpected {what}", f"this is a fault of lrscale; {where}")


def _show_traceback_when_debugging() -> None:
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exc()
