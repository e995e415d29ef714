"""The forkserver: one process with torch and Lightning loaded that forks a fresh process for every rank.

Started as ``python -m lrscale.launch.server``. It reads one JSON message a line from its standard input and answers on
its standard output. It is single-threaded, never initialises CUDA and builds no module, so that each fork starts from
the state of a new interpreter that has done its imports. When its input closes, because the driver ended in whatever
way, it kills every rank and goes.

==================================================================  =====================================
driver says                                                         server says
==================================================================  =====================================
``{"op": "preload", "modules": [...], "paths": [...]}`` (first)     ``{"event": "ready", "notes": [...]}``
``{"op": "start", "key": K, "rank": R, "job": ..., "log": ...,
"env": {...}, "entry": "module"}``                                  ``{"event": "started", "key", "rank", "pid"}``
``{"op": "kill", "key": K}``                                        nothing
(a rank ends)                                                       ``{"event": "exited", "key", "rank", "code"}``
==================================================================  =====================================
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, NoReturn, final

from lrscale.launch.rank_exit import leave

CORE_MODULES = ("torch", "torch.distributed", "pytorch_lightning", "lrscale.training.rank")
"""Always loaded; ``lightning.pytorch`` too where it is installed."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@final
class Server:
    """State of the forkserver: the ranks that run, and the two pipes to the driver."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests = requests
        self._replies = replies
        self._ranks: dict[int, tuple[str, int]] = {}

    def serve(self) -> None:
        """Answer until the driver's pipe closes, then kill what still runs."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, _ignore)
        pending = b""
        try:
            while True:
                readable, _, _ = select.select([self._requests, wake_read], [], [])
                if wake_read in readable:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    self._reap()
                if self._requests in readable:
                    chunk = os.read(self._requests.fileno(), 1 << 16)
                    if not chunk:
                        return
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        self._answer(json.loads(line))
        finally:
            for pid in self._ranks:
                _kill_session(pid)

    def _answer(self, message: dict[str, Any]) -> None:
        if message["op"] == "preload":
            self._say(event="ready", notes=preload(message["modules"], message["paths"]))
        elif message["op"] == "start":
            self._start(message)
        elif message["op"] == "kill":
            for pid, (key, _) in self._ranks.items():
                if key == message["key"]:
                    _kill_session(pid)
                    # A rank that has not made its session yet is reached by its own number only.
                    os.kill(pid, signal.SIGKILL)

    def _start(self, message: dict[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_rank(parent, message)
        self._ranks[pid] = (message["key"], message["rank"])
        self._say(event="started", key=message["key"], rank=message["rank"], pid=pid)

    def _reap(self) -> None:
        while self._ranks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            key, rank = self._ranks.pop(pid)
            # What a rank leaves in its session, data-loader workers above all, ends with it.
            _kill_session(pid)
            self._say(event="exited", key=key, rank=rank, code=os.waitstatus_to_exitcode(status))

    def _say(self, **message: Any) -> None:
        self._replies.write(json.dumps(message).encode() + b"\n")
        self._replies.flush()


def preload(modules: list[str], paths: list[str]) -> list[str]:
    """Import torch, Lightning and the task's modules, and return a sentence for each that could not be had.

    A module of the task that fails to import is left to the ranks, which report it. One that starts a thread or
    initialises CUDA would make forking unsafe; it is named so that the driver starts again without it.
    """
    notes = []
    for path in paths:
        if path not in sys.path:
            sys.path.insert(0, path)
    for name in CORE_MODULES:
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("lightning.pytorch")
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # a stranger's module may raise anything, SystemExit included
            notes.append(f"{name} is imported by each rank: {type(error).__name__}: {error}")
        if _forking_is_unsafe():
            notes.append(f"unsafe: {name}")
            break
    gc.collect()
    gc.freeze()
    return notes


def _forking_is_unsafe() -> bool:
    import torch

    tasks = Path("/proc/self/task")
    threads = len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()
    return threads > 1 or torch.cuda.is_initialized()


def _become_rank(parent: int, message: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        # Descriptors 0 to 2 of the server are free for this: the pipes to the driver were moved at start.
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(message["env"])
        code = importlib.import_module(message["entry"]).main(message["job"])
    finally:
        leave(code)


def _kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def main() -> None:
    """Move the pipes away from descriptors 0 and 1, so that no import can write into them, and serve."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Server(requests, replies).serve()


if __name__ == "__main__":
    main()
