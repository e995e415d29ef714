"""The process between the driver and the forkserver: it outlives both and leaves nothing behind.

Started as ``python reaper.py LIFELINE SCRATCH``. LIFELINE is the read end of a pipe whose other end only the driver
holds, so it closes when the driver ends, in whatever way and however early. The reaper forks the server, which takes
over the pipes to the driver, and then waits for one of the two to end. After that it kills what is left: on Linux it is
the subreaper of all its descendants (prctl(2)), so that data-loader workers whose rank was killed, and whatever else a
module has started, become its children and are found. It holds the write end of the replies until it goes: to the
driver, the end of the replies means that no process is left.

Imports nothing but the standard library before the fork, so that it stays small and the fork is safe.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SERVER = "lrscale.launch.processes.server"
"""Module whose ``main()`` the server runs."""
GOODBYE = 1.0
"""Seconds that the server gets to end its ranks itself where the reaper cannot find them."""
PATIENCE = 10.0
"""Seconds of waiting for killed processes; one that hangs in the kernel is left to it."""


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when `parent` ends; False where there is no such means (not Linux)."""
    known = _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    return known


def main() -> None:
    """Fork the server and clean up after it."""
    lifeline, scratch = int(sys.argv[1]), sys.argv[2]
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    adopts = _prctl(PR_SET_CHILD_SUBREAPER, 1)
    myself = os.getpid()
    wake, wake_end = os.pipe()
    server = os.fork()
    if server == 0:
        for descriptor in (lifeline, wake, wake_end):
            os.close(descriptor)
        die_with_parent(myself)
        _serve()
    os.close(0)
    os.set_blocking(wake, False)
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.signal(signal.SIGTERM, _leave)
    status: int | None = None
    try:
        status = _wait(lifeline, wake, server, timeout=None)
        if status is None and not adopts:
            status = _wait(None, wake, server, timeout=GOODBYE)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_all(server)
        # A server that ends well was dismissed, perhaps by a driver that is about to end: its pipes close one by one.
        if status == 0 or select.select([lifeline], [], [], 0)[0]:
            shutil.rmtree(scratch, ignore_errors=True)


def _serve() -> NoReturn:
    # This file's own folder was put on the import path; lrscale must come from where the driver's comes from.
    here = Path(__file__).resolve().parent
    package = str(here.parents[2])
    sys.path[:] = [package, *(path for path in sys.path if not path or Path(path).resolve() != here)]
    __import__("lrscale")
    del sys.path[0]
    if package not in sys.path:
        sys.path.append(package)
    try:
        importlib.import_module(SERVER).main()
    finally:
        # What a module of the task has registered to happen at exit is none of the server's business.
        error = sys.exc_info()[1]
        if error is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        os._exit(0 if error is None else 1)


def _wait(lifeline: int | None, wake: int, server: int, timeout: float | None) -> int | None:
    """Wait for the end of the server, and return its wait status; None when the driver ended first, or time is up."""
    watched = [wake] if lifeline is None else [wake, lifeline]
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        readable, _, _ = select.select(watched, [], [], left)
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            ended = _reap()
            if server in ended:
                return ended[server]
        if not readable or lifeline in readable:
            return None


def _reap() -> dict[int, int]:
    """Take leave of every child that has ended, the server and orphans that were adopted; return how each ended."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def _kill_all(server: int) -> None:
    """Kill every child, and the orphans that become children by that, until none is left."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        # Whoever is left has not been waited for, so none of these numbers can be another's by now. Without /proc
        # there are no adopted orphans either.
        for pid in _children() or {server}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _children() -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in the second field may hold spaces and brackets; the parent is the second field after it.
            if int(entry.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.add(int(entry.parent.name))
    return found


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
