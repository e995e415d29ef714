"""Signs of life, told apart from silence without comparing the clocks of two machines."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.store.files import to_json, write_atomically

BEAT = 3.0
"""Seconds between signs of life."""


@final
class Heart:
    """Rewrites a file every few seconds, with a count that goes up, from a thread of its own.

    Parameters
    ----------
    path : Path
        The file.
    check : callable, optional
        Called at every beat, in the thread. Default: nothing.
    said : object
        What the file says besides the count, as JSON values.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Heart(Path(folder) / "12.json", state="idle") as heart:
    ...     heart.tell(state="running")
    ...     print((Path(folder) / "12.json").read_text())
    {"state": "running", "beat": 2}
    """

    def __init__(self, path: Path, *, check: Callable[[], None] | None = None, **said: Any) -> None:
        self._path = path
        self._check = check
        self._said = dict(said)
        self._beat = 0
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Heart:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._stop.set()
        self._thread.join()

    def tell(self, **said: Any) -> None:
        """Say something else from now on."""
        self._said.update(said)
        self._write()

    def _run(self) -> None:
        while not self._stop.wait(BEAT):
            self._write()
            if self._check is not None:
                self._check()

    def _write(self) -> None:
        with self._writing:
            self._beat += 1
            # A full disk is told by the work itself; until then there is nothing to say it with.
            with contextlib.suppress(StudyError):
                write_atomically(self._path, to_json({**self._said, "beat": self._beat}), durable=False)


@final
class Pulses:
    """How long each worker has been silent, by the watcher's own monotonic clock.

    A count that has changed since the last look is a sign of life. Neither the workers' clocks nor the file server's
    are asked, so that none of them can be wrong.

    Parameters
    ----------
    clock : callable, optional
        Seconds, monotonic. Default ``time.monotonic``.

    Examples
    --------
    >>> now = iter([0.0, 60.0, 90.0])
    >>> pulses = Pulses(clock=lambda: next(now))
    >>> for beat in (1, 2, 2):
    ...     pulses.look({"12": {"beat": beat}})
    >>> pulses.silence("12")
    30.0
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now: float | None = None
        self._heard: dict[str, tuple[Any, float]] = {}

    def look(self, hearts: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of what the workers last said."""
        self._now = self._clock()
        for worker, said in hearts.items():
            beat = said.get("beat")
            if worker not in self._heard or self._heard[worker][0] != beat:
                self._heard[worker] = (beat, self._now)

    def silence(self, worker: str) -> float:
        """Return the seconds up to the last look in which a worker gave no sign of life; at first sight 0.

        A worker that has never been seen is silent from the first time that it is asked for.
        """
        if self._now is None:
            return 0.0
        _, heard = self._heard.setdefault(worker, (None, self._now))
        return self._now - heard
