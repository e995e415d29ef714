"""The driver's end of the forkserver."""

from __future__ import annotations

import importlib.util
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

CORE_MODULES = ("torch", "torch.distributed", "pytorch_lightning", "lrscale.training.rank")
"""Loaded before the first fork; ``lightning.pytorch`` too where it is installed."""
START_TIMEOUT = 600.0
"""Seconds to load torch, Lightning and the task's modules; torch alone has been seen to take minutes from a cold
shared file system."""
STOP_TIMEOUT = 15.0
"""Seconds until everything is killed and waited for; longer than the reaper's own patience."""
LOG_LINES = 5
"""Lines of the server's log in the message when it does not come up."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Libraries of linear algebra start a pool of threads when they are loaded, and a fork has none of them."""


@final
class Forkserver:
    """A running server process below its reaper, and what it says.

    Parameters
    ----------
    scratch : Path
        A folder of this server's own; its reaper removes it when the driver dies.
    modules : sequence of str
        Modules of the task to load before the first fork.
    paths : sequence of str
        Folders put in front of the import path.
    core : sequence of str or None, optional
        Modules that the worker needs. Default None: torch, Lightning and lrscale's own worker.
    """

    def __init__(
        self, scratch: Path, modules: tuple[str, ...], paths: tuple[str, ...], core: tuple[str, ...] | None = None
    ) -> None:
        self._scratch = scratch
        self._log_path = scratch / "server.log"
        self._core = _core_modules() if core is None else core
        self._modules = modules
        self._paths = paths
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._lifeline: int | None = None
        self._pending = b""
        self._last_words = ""

    def start(self) -> list[str]:
        """Start the server, wait until it is ready, and return its notes.

        The task's modules are loaded only as far as that leaves a process that can be forked; the ranks import the
        rest.

        Raises
        ------
        StudyError
            When it does not come up, with the end of its log.
        """
        notes: dict[str, None] = {}
        while True:
            modules = self._modules
            ready = self._start_once(modules)
            if ready is None:
                if not modules:
                    raise StudyError(f"the process that starts trials did not come up: {self._last_words}")
                self._modules = ()
                notes[f"the modules of the task are imported by each rank: {self._last_words}"] = None
                continue
            notes.update(dict.fromkeys(ready["notes"]))
            if ready["unsafe"] is None:
                return list(notes)
            self.stop()
            # What stands before it in the list was fine.
            self._modules = modules[: modules.index(ready["unsafe"])]
            notes[f"{ready['unsafe']} is imported by each rank: importing it starts threads or CUDA"] = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped; the process may have died meanwhile, as `events` will tell."""
        return self._process is not None

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message; False when the server is gone."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield what the server said within `timeout` seconds.

        ``{"event": "lost"}`` comes last when the server has died: then no process of it is left.
        """
        if self._process is None or self._process.stdout is None:
            yield {"event": "lost"}
            return
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            self.stop()
            yield {"event": "lost"}
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def stop(self) -> None:
        """End the server and every process that it has started, and wait until they are gone."""
        process, self._process, self._pending = self._process, None, b""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass
            try:
                process.wait(timeout=STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _start_once(self, modules: tuple[str, ...]) -> dict[str, Any] | None:
        self._scratch.mkdir(exist_ok=True)
        self._log = self._log_path.open("ab")
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("reaper.py")), str(lifeline), str(self._scratch)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                pass_fds=(lifeline,),
                start_new_session=True,
                env=_server_environment(),
            )
        finally:
            os.close(lifeline)
        self.send({"op": "preload", "core": self._core, "modules": modules, "paths": self._paths})
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for event in self.events(timeout=1.0):
                if event["event"] == "ready":
                    return event
                if event["event"] == "lost":
                    self._last_words = self._end_of_log() or "it ended without a word"
                    return None
        self._last_words = f"not ready after {START_TIMEOUT:.0f} s: {self._end_of_log()}"
        self.stop()
        return None

    def _end_of_log(self) -> str:
        try:
            text = self._log_path.read_text(errors="replace")
        except OSError:
            return ""
        return " | ".join(text.strip().splitlines()[-LOG_LINES:])


def _core_modules() -> tuple[str, ...]:
    unified = ("lightning.pytorch",) if importlib.util.find_spec("lightning") is not None else ()
    return (*CORE_MODULES, *unified)


WAIT_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which users say how OpenMP's threads wait for each other; the libraries read them when they are loaded.

Where none is set, the threads of a rank sleep instead of spinning. A thread that spins while the one that it waits for
has lost its core makes a step of a small network some forty times slower on a machine that does anything else."""


def _server_environment() -> dict[str, str]:
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    # Makes torch count devices without initialising CUDA, so that a module which asks for them at import can be loaded
    # before the fork.
    environment.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if not any(name in os.environ for name in WAIT_POLICIES):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return environment
