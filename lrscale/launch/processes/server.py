"""The forkserver: one process with torch and Lightning loaded that forks a fresh process for every rank.

It reads one JSON message a line from its standard input and answers on its standard output. It is single-threaded,
never initialises CUDA and builds no module, so that each fork starts from the state of a new interpreter that has done
its imports. When its input closes, because the driver ended in whatever way, it kills every rank and goes.

==================================================================  =====================================
driver says                                                         server says
==================================================================  =====================================
``{"op": "preload", "core": [...], "modules": [...],                ``{"event": "ready", "notes": [...],
"paths": [...]}`` (first)                                           "unsafe": module or null}``
``{"op": "start", "key": K, "rank": R, "job": ..., "log": ...,
"env": {...}, "entry": "module"}``                                  nothing
``{"op": "stacks", "key": K}``: ranks write their stacks            nothing
``{"op": "kill", "key": K}``                                        nothing
(a rank ends)                                                       ``{"event": "exited", "key", "rank", "code"}``
==================================================================  =====================================

A code is the exit status, or minus the number of the signal that ended the rank.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, final

from lrscale.launch.processes.rank import STACKS_SIGNAL, become_rank

PARENT_POLL = 1.0
"""Seconds between looks at the parent, for systems whose kernel does not watch it."""


@final
class Server:
    """State of the forkserver: the ranks that run, and the two pipes to the driver.

    Parameters
    ----------
    requests, replies : int
        Descriptors of the pipes.
    """

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = requests
        self._replies = replies
        self._wake, self._wake_end = os.pipe()
        self._ranks: dict[int, tuple[str, int]] = {}

    def serve(self) -> None:
        """Answer until the driver's pipe closes, then kill what still runs."""
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_end, False)
        signal.set_wakeup_fd(self._wake_end)
        signal.signal(signal.SIGCHLD, _ignore)
        parent = os.getppid()
        pending = b""
        try:
            while os.getppid() == parent:
                readable, _, _ = select.select([self._requests, self._wake], [], [], PARENT_POLL)
                if self._wake in readable:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._reap()
                if self._requests in readable:
                    chunk = os.read(self._requests, 1 << 16)
                    if not chunk:
                        return
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        self._answer(json.loads(line))
        finally:
            for pid in self._ranks:
                _kill_rank(pid)

    def _answer(self, message: dict[str, Any]) -> None:
        if message["op"] == "preload":
            notes, unsafe = preload(message["core"], message["modules"], message["paths"])
            self._say(event="ready", notes=notes, unsafe=unsafe)
        elif message["op"] == "start":
            self._start(message)
        else:
            for pid, (key, _) in self._ranks.items():
                if key == message["key"]:
                    _kill_rank(pid) if message["op"] == "kill" else os.kill(pid, STACKS_SIGNAL)

    def _start(self, message: dict[str, Any]) -> None:
        parent = os.getpid()
        # What a preloaded module has printed is in this process's log once, not in that of every rank.
        _flush()
        pid = os.fork()
        if pid == 0:
            become_rank(parent, message, (self._requests, self._replies, self._wake, self._wake_end))
        self._ranks[pid] = (message["key"], message["rank"])

    def _reap(self) -> None:
        for pid in list(self._ranks):
            status = _take_leave(pid)
            if status is not None:
                key, rank = self._ranks.pop(pid)
                self._say(event="exited", key=key, rank=rank, code=os.waitstatus_to_exitcode(status))

    def _say(self, **message: Any) -> None:
        left = json.dumps(message).encode() + b"\n"
        while left:
            left = left[os.write(self._replies, left) :]


def preload(core: list[str], modules: list[str], paths: list[str]) -> tuple[list[str], str | None]:
    """Import what the worker needs, which must succeed, then the task's modules.

    A module of the task that fails to import is left to the ranks, which report it. One that starts a thread or
    initialises CUDA makes forking unsafe: threads do not survive a fork but the locks that they hold do, and CUDA
    refuses to run in a fork of a process that has used it.

    Returns
    -------
    notes : list of str
        A sentence for each module that could not be had.
    unsafe : str or None
        The module that has made forking unsafe, after which none is imported: the driver starts again without it.
    """
    notes = []
    for path in paths:
        if path not in sys.path:
            sys.path.insert(0, path)
    for name in core:
        importlib.import_module(name)
    threads = _thread_count()
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # a stranger's module may raise anything, SystemExit included
            notes.append(f"{name} is imported by each rank: {type(error).__name__}: {error}")
        if _thread_count() > threads or _cuda_is_used():
            return notes, name
    gc.collect()
    gc.freeze()
    return notes, None


def _thread_count() -> int:
    # Threads that C libraries have started count too where the system lists them.
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def _cuda_is_used() -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if torch.cuda.is_initialized():
        return True
    # Asking for the devices can initialise the driver without torch's context. torch marks forks of such a process,
    # and only a fork knows: torch.cuda._is_in_bad_fork, private but stable since torch 0.4.
    _flush()
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(bool(torch.cuda._is_in_bad_fork())))
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] != 0


def _take_leave(pid: int) -> int | None:
    """Return the wait status of a rank that has ended, after ending what it leaves in its session; else None."""
    if hasattr(os, "waitid"):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        # Its number is its own until it is waited for, so this cannot reach a stranger's session.
        _kill_session(pid)
        return os.waitpid(pid, 0)[1]
    ended, status = os.waitpid(pid, os.WNOHANG)  # macOS before Python 3.13
    if ended == 0:
        return None
    _kill_session(pid)
    return status


def _kill_session(leader: int) -> None:
    # Data-loader workers above all.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _kill_rank(pid: int) -> None:
    _kill_session(pid)
    # A rank that has not made its session yet is reached by its own number only.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A stranger's module may have closed or replaced them.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def main() -> None:
    """Move the pipes away from descriptors 0 and 1, so that no import can read or write them, and serve."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    # A rank that is killed loses what is buffered, and with it the line that says why.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    Server(requests, replies).serve()
