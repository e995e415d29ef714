"""Has finished trials written to the loggers that a recipe names, by a process beside the study."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, Trial
from lrscale.store.logged import FOLDER, LOG, logger_key, logger_label, read_logged

ENTRY = "lrscale.training.log_trials"
"""Module that the process runs."""
SILENCE = 180.0
"""Seconds without an answer after which the process is not waited for: W&B alone waits 90 for a network."""
STARTING = 2.0
"""Seconds of waiting after which it is said what is waited for."""
BRIEF = 30.0
"""The same before trials that are timed, which must not wait long for a logger that hangs."""
GOING = 5.0
"""Seconds for the trial in hand when the study is interrupted."""


@final
class TrialLogs:
    """The process that writes trials to a recipe's loggers; without loggers there is none, and nothing is done.

    A logger's errors end here, as notes. A context: on leaving it, what was asked is waited for, unless the study is
    interrupted.

    Parameters
    ----------
    recipe : Recipe
        Names the loggers.
    folder : StudyFolder
        Its lock is held.
    progress : AbstractProgress
        Told what the user should read, from the thread that calls the methods.
    """

    def __init__(self, recipe: Recipe, folder: StudyFolder, progress: AbstractProgress) -> None:
        self._recipe, self._folder, self._progress = recipe, folder, progress
        self._entries = [entry.model_dump(mode="json") for entry in recipe.logger]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._changed = threading.Condition()
        self._notes: list[str] = []
        self._open = 0
        """Trials that the process was told of and has not answered for."""
        self._told_at = 0.0
        self._gone = False
        self._held: list[tuple[str, str]] | None = None

    def __enter__(self) -> TrialLogs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if kind is None:
            self._tell({"end": True})
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._wait(lambda: self._gone, **({} if kind is None else {"most": GOING}))
        if self._open and kind is None:
            self._say_missed()
        with contextlib.suppress(ProcessLookupError):
            # The services that loggers start go with it.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._reader is not None and self._process.stdout is not None
        self._reader.join()
        self._process.stdout.close()
        self._say_notes()

    def add_finished(self, trials: Mapping[str, Trial], plan: Mapping[str, Any]) -> None:
        """Have those of the finished trials logged that are not yet, as after an interruption or under a new logger."""
        if not self._entries:
            return
        logged = read_logged(self._folder.path)
        known = [logged.get(logger_key(entry)) for entry in self._entries]
        asked_by: dict[str, str] = {}
        for decision in plan["decisions"]:
            for trial_id in decision.get("trials", ()):
                asked_by.setdefault(trial_id, decision["experiment"])
        for trial in trials.values():
            if not all(one is not None and trial.trial_id in one.done for one in known):
                self.add(trial, asked_by.get(trial.trial_id, ""))

    def add(self, trial: Trial, experiment: str) -> None:
        """Have a trial logged, once its record is on the disk; one that will run again is not yet."""
        if not self._entries or trial.record.retryable:
            return
        if self._held is not None:
            self._held.append((trial.trial_id, experiment))
            return
        self._ask(trial.trial_id, experiment)
        self._say_notes()

    @contextlib.contextmanager
    def held(self, hold: bool = True) -> Iterator[None]:
        """Log nothing while trials run that are timed; what is under way is waited for first."""
        if not self._entries or not hold:
            yield
            return
        self._wait(lambda: self._open == 0 or self._gone, silence=BRIEF)
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for trial_id, experiment in held:
                self._ask(trial_id, experiment)

    def _start(self) -> None:
        home = self._folder.path.resolve() / FOLDER
        home.mkdir(exist_ok=True)
        root = self._recipe.root.resolve()
        # Loggers write on rank 0 alone, and this process is none of a group; whose devices it must not take.
        environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": ""}
        with (home / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", ENTRY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                encoding="utf-8",
                # Ctrl-C is for the study, which then gives the process some seconds.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._told_at = time.monotonic()
        self._tell(
            {
                "study": str(self._folder.path.resolve()),
                "name": self._recipe.name,
                "loggers": self._entries,
                "paths": [str((root / path).resolve()) for path in self._recipe.task.import_paths],
            }
        )

    def _ask(self, trial_id: str, experiment: str) -> None:
        if self._process is None:
            try:
                self._start()
            except OSError as error:
                self._progress.note(f"trials are not logged: {error}. The trials themselves are kept")
                self._entries = []
                return
        with self._changed:
            if self._open == 0:
                self._told_at = time.monotonic()
            self._open += 1
        self._tell({"trial": trial_id, "experiment": experiment})

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
        except (OSError, ValueError):  # it has ended, which `_read` tells
            pass

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            with self._changed:
                self._told_at = time.monotonic()
                if "note" in message:
                    self._notes.append(message["note"])
                if "trial" in message:
                    self._open -= 1
                self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _wait(self, over: Callable[[], bool], *, silence: float = SILENCE, most: float = math.inf) -> None:
        """Wait until something holds, as long as answers come, and not longer than `most` seconds."""
        began, said = time.monotonic(), False
        with self._changed:
            while not over():
                instant = time.monotonic()
                if instant - max(began, self._told_at) > silence or instant - began > most:
                    return
                if most == math.inf and not said and instant - began > STARTING and self._open:
                    said = True
                    self._progress.note(f"waiting for {self._labels()}: {self._open} trials to log")
                self._changed.wait(0.2)

    def _say_missed(self) -> None:
        log = self._folder.path / FOLDER / LOG
        ended = f"its process has ended: {_last_line(log)}" if self._gone else "no answer"
        self._progress.note(
            f"{self._labels()}: {self._open} trials are not logged, {ended}. The trials themselves are kept; the same "
            f"command tries again, and {log} tells more"
        )

    def _say_notes(self) -> None:
        with self._changed:
            notes, self._notes = self._notes, []
        for note in notes:
            self._progress.note(note)

    def _labels(self) -> str:
        return " and ".join(dict.fromkeys(logger_label(entry) for entry in self._entries))


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it printed nothing")
    return "it printed nothing"
