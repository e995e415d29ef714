"""How a worker is made to leave: at the end of its job's time, or when it is told to go."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lrscale.launch.slurm.deadline import Deadline
from lrscale.launch.slurm.script import NOTICE, NOTICE_SIGNAL


class LeaveError(BaseException):
    """The job is about to end; no `Exception`, so that no handler of one keeps it."""

    def __init__(self, cause: str, detail: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        """``"time"``, ``"NODE_FAIL"``, ``"FAILED"``, or the name of the signal."""
        self.detail = detail
        """What failed."""


@contextmanager
def leaving_in_time(deadline: Deadline) -> Iterator[None]:
    """Raise `LeaveError` in the main thread once: at the end of the time, or when the job is told to go."""
    gone = False

    def leave(cause: str) -> None:
        nonlocal gone
        if not gone:
            gone = True
            raise LeaveError(cause)

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        leave("time" if number == signal.SIGALRM else signal.Signals(number).name)

    def arm() -> None:
        if deadline.left < math.inf:
            signal.setitimer(signal.ITIMER_REAL, max(deadline.left, 0.001))

    def notice(number: int, frame: FrameType | None) -> None:
        del number, frame
        deadline.at_most(NOTICE)
        arm()

    handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGALRM: end, NOTICE_SIGNAL: notice}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    arm()
    try:
        yield
    finally:
        gone = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
