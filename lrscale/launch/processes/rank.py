"""A forked rank: from the fork to the entry of the worker, and its end."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from lrscale.launch.processes.reaper import die_with_parent

STACKS_SIGNAL = signal.SIGUSR2
"""Makes a rank write the stack of each of its threads to its log, also while it hangs in a call of C."""
POLL = 0.5
"""Seconds between looks at the parent where the kernel does not watch it."""


def become_rank(parent: int, message: Mapping[str, Any], inherited: Sequence[int]) -> NoReturn:
    """Turn a fresh fork of the server into a rank, run its job and end.

    Parameters
    ----------
    parent : int
        Process number of the server.
    message : mapping
        The driver's start message.
    inherited : sequence of int
        Descriptors of the server that are none of a rank's business: an open end of a pipe in a rank, or in a
        data-loader worker of it, would hide the server's death from the driver.
    """
    code = 1
    try:
        os.setsid()
        if not die_with_parent(parent):
            threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in inherited:
            os.close(descriptor)
        _open_standard_streams(message["log"])
        faulthandler.enable(file=2)
        faulthandler.register(STACKS_SIGNAL, file=2)
        os.environ.update(message["env"])
        code = importlib.import_module(message["entry"]).main(message["job"])
    finally:
        _leave(code)


def _open_standard_streams(log_path: str) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(nothing)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os.killpg(0, signal.SIGKILL)


def _leave(code: int) -> NoReturn:
    """End this process now, with its output flushed and without the handlers inherited from the server."""
    try:
        error = sys.exc_info()[1]
        if error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
