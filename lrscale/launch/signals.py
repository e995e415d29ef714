"""How a process that has started others is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM raise a KeyboardInterrupt, as Ctrl-C does, so that what was started is ended on the way out.

    SLURM and container runtimes send it some seconds before SIGKILL: time to end the ranks and to say how to go on. In
    a thread other than the main one, which gets no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
