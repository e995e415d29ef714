"""Writes finished trials to the loggers that a recipe names.

A process of its own, ``python -m lrscale.training.log_trials``. It reads one JSON message a line from its standard
input and answers on its standard output. It trains nothing and is told of a trial only when the trial's record is on
the disk, so that neither a logger's errors nor its network can reach training. When its input closes it ends what was
asked, and where the driver is gone, after the trial in hand.

=====================================================================  ==============================
driver says                                                            process says
=====================================================================  ==============================
``{"study": folder, "name": ..., "loggers": [...], "paths": [...]}``
(first)                                                                ``{"ready": true}``
``{"trial": id, "experiment": key}``                                   ``{"trial": id}`` when it is over
``{"end": true}``: no more will come                                   nothing
(something the user should read)                                       ``{"note": sentence}``
=====================================================================  ==============================
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, final

from lrscale.errors import LrscaleError, StudyError
from lrscale.store import StudyFolder, Trial
from lrscale.store.lock import hold
from lrscale.store.logged import FOLDER, LOG, LoggedTo, add_event, logger_key, logger_label, read_logged
from lrscale.training.user_logger import UserLogger, log_settings

PATIENCE = 2
"""Trials in a row that a logger may fail to take; then it is left alone until the next run, since each failure of a
network takes its time."""
LEFT_ALONE = 60.0
"""Seconds for the trial in hand once the driver is gone."""
NICENESS = 10
"""Trials go first."""


@final
class Sink:
    """One logger of the recipe, and what it has got.

    Parameters
    ----------
    study : Path
        The study folder.
    name : str
        Of the study.
    entry : mapping
        ``class_path`` and ``init_args``.
    where : str
        Its place in the recipe.
    known : LoggedTo or None
        What earlier runs have written.
    note : callable
        Told what the user should read.
    """

    def __init__(
        self,
        study: Path,
        name: str,
        entry: Mapping[str, Any],
        where: str,
        known: LoggedTo | None,
        note: Callable[[str], None],
    ) -> None:
        self._study, self._name, self._entry, self._note = study, name, entry, note
        self._label = logger_label(entry)
        self._known = known or LoggedTo(self._label)
        self._failures = 0
        self._logger: UserLogger | None = None
        try:
            self._logger = UserLogger(entry, where, name)
        except Exception as error:  # whatever importing a stranger's class raises
            self._give_up("", error)
        else:
            if self._logger.left_out:
                names = " and ".join(self._logger.left_out)
                note(f"{self._label}: {names} is not kept, since each trial is a run of its own, named after the trial")

    def take(self, trial: Trial, experiment: str) -> None:
        """Write a trial, unless it is there already or the logger has failed too often."""
        trial_id = trial.trial_id
        if self._logger is None or trial_id in self._known.done:
            return
        folder = StudyFolder(self._study)
        try:
            run = self._logger.open(trial_id, self._known.begun[trial_id])
            log_settings(run, trial, self._name, experiment)
            # From here on there are points, which another attempt would double.
            add_event(self._study, self._entry, trial_id, "begun")
            self._known.begun[trial_id] += 1
            self._logger.log_course(run, trial, folder.trajectory(trial_id))
            run.save()
            self._logger.end(run, trial.record.status)
            add_event(self._study, self._entry, trial_id, "done")
            self._known.done.add(trial_id)
            self._failures = 0
        except Exception as error:  # whatever a stranger's logger raises: no network, a full disk, a missing package
            self._failures += 1
            traceback.print_exc()
            self._give_up(trial_id, error)

    def _give_up(self, trial_id: str, error: Exception) -> None:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        which = f" did not take trial {trial_id}" if trial_id else " cannot be used"
        last = self._logger is None or self._failures >= PATIENCE
        self._note(
            f"{self._label}{which}: {reason}. The trials themselves are kept"
            + ("; the next run of the same command tries it again" if last else "")
        )
        if last:
            self._logger = None
        try:
            add_event(self._study, self._entry, trial_id, "failed", reason)
        except OSError:  # the disk is full: the sentence above is all that can be said
            traceback.print_exc()


def serve(say: Callable[[Mapping[str, Any]], None], asked: queue.Queue[dict[str, Any] | None]) -> None:
    """Answer until the driver has said that no more will come."""
    first = asked.get()
    if first is None:
        return
    study = Path(first["study"])
    sys.path[:0] = [path for path in first["paths"] if path not in sys.path]
    folder, known = StudyFolder(study), read_logged(study)

    def note(text: str) -> None:
        say({"note": text})

    sinks = [
        Sink(
            study,
            first["name"],
            entry,
            "logger" if len(first["loggers"]) == 1 else f"logger[{place}]",
            known.get(logger_key(entry)),
            note,
        )
        for place, entry in enumerate(first["loggers"])
    ]
    say({"ready": True})
    while (message := asked.get()) is not None and "trial" in message:
        trial_id = message["trial"]
        try:
            record = folder.record(trial_id)
            if record is not None:
                trial = Trial(folder.spec(trial_id), record)
                for sink in sinks:
                    sink.take(trial, message["experiment"])
        except LrscaleError as error:
            note(f"trial {trial_id} cannot be read: {error}")
        say({"trial": trial_id})


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Be the one writer: a driver that was killed may have left another, which is about to end."""
    deadline = time.monotonic() + LEFT_ALONE + 1
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold(home))
                break
            except StudyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield


def main() -> None:
    """Take over the pipes, since loggers print, and serve."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.nice(NICENESS)
    asked: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def say(message: Mapping[str, Any]) -> None:
        try:
            print(json.dumps(message), file=answers, flush=True)
        except OSError:  # the driver is gone
            os._exit(1)

    def read() -> None:
        ended = False
        for line in sys.stdin:
            message = json.loads(line)
            ended = ended or "end" in message
            asked.put(None if "end" in message else message)
        if not ended:
            # The driver was killed: the next one goes on, and must not wait for this process.
            with asked.mutex:
                asked.queue.clear()
            asked.put(None)
            threading.Timer(LEFT_ALONE, os._exit, (1,)).start()

    first = json.loads(sys.stdin.readline())
    home = Path(first["study"]) / FOLDER
    asked.put(first)
    threading.Thread(target=read, daemon=True).start()
    with _alone(home):
        log = os.open(home / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # What a recipe's logger writes to relative paths lies with the study.
        os.chdir(home)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            serve(say, asked)


if __name__ == "__main__":
    main()
    # Threads of loggers that hang must not hold the process; what was written is closed by now.
    sys.stdout.flush()
    os._exit(0)
