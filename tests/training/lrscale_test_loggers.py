"""Loggers as strangers write them: recipes of tests name them by this module."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class FileLogger(Logger):
    """A logger with `run_name` and no more: a file of lines for each run."""

    def __init__(self, folder: str, run_name: str) -> None:
        super().__init__()
        self._path = Path(folder) / f"{run_name}.jsonl"
        print("loggers print, also where an answer is expected")

    @property
    def name(self) -> str:
        return "files"

    @property
    def version(self) -> str:
        return self._path.stem

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self._write("settings", dict(params))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._write("point", {"step": step, **metrics})

    def finalize(self, status: str) -> None:
        self._write("end", {"status": status})

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps({"kind": kind, **values}) + "\n")


class FullDisk(FileLogger):
    """Has room for some points of a run, or for none of any."""

    room = 3

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step is not None and step > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().log_metrics(metrics, step)


class Dies(FileLogger):
    """Takes its process with it, as a crash in compiled code does."""

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        sys.stderr.write("the library of this logger has crashed\n")
        sys.stderr.flush()
        import os

        os._exit(9)


class Nameless(Logger):
    """Nothing tells its runs apart."""

    def __init__(self) -> None:
        super().__init__()

    name = version = property(lambda self: "same")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...
