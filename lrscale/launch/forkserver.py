"""The driver's end of the forkserver."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, final

from lrscale.errors import StudyError

START_TIMEOUT = 300.0
"""Seconds to load torch and Lightning; a cold shared file system has been seen to take a minute or two."""


@final
class Forkserver:
    """A running server process, and what it says.

    Parameters
    ----------
    log : Path
        Where the server's own output goes.
    modules : sequence of str
        Modules of the task to load before the first fork.
    paths : sequence of str
        Folders put in front of the import path.
    """

    def __init__(self, log: Path, modules: tuple[str, ...], paths: tuple[str, ...]) -> None:
        self._log_path = log
        self._modules = modules
        self._paths = paths
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._pending = b""

    def start(self) -> list[str]:
        """Start the server, wait until it is ready, and return its notes.

        Raises
        ------
        StudyError
            When it does not come up, with the end of its log.
        """
        notes = self._start_once(self._modules)
        unsafe = [note.removeprefix("unsafe: ") for note in notes if note.startswith("unsafe: ")]
        if unsafe:
            # That module must be imported by each rank; what stands before it in the list was fine.
            self.stop()
            self._modules = self._modules[: self._modules.index(unsafe[0])]
            notes = self._start_once(self._modules)
        return [note for note in notes if not note.startswith("unsafe: ")]

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message; False when the server is gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            return False
        return True

    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield what the server said within `timeout` seconds; ``{"event": "lost"}`` when it died."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            yield {"event": "lost"}
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def stop(self) -> None:
        """Close the server's input, which makes it kill its ranks and go; kill it when it does not."""
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._log is not None:
            self._log.close()
        self._process, self._pending = None, b""

    def _start_once(self, modules: tuple[str, ...]) -> list[str]:
        self._log = self._log_path.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lrscale.launch.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self.send({"op": "preload", "modules": list(modules), "paths": list(self._paths)})
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for event in self.events(timeout=1.0):
                if event["event"] == "ready":
                    return list(event["notes"])
                if event["event"] == "lost":
                    self.stop()
                    tail = self._log_path.read_text(errors="replace").strip().splitlines()[-5:]
                    raise StudyError("the process that starts trials ended while loading torch: " + " | ".join(tail))
        self.stop()
        raise StudyError(f"the process that starts trials was not ready after {START_TIMEOUT:.0f} s")
