"""When a job ends, and which trials still fit into it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import final

RESERVE = 20.0
"""Seconds before the end of a job at which its trials are given back: to end their ranks and to write a file."""
MARGIN = 1.5
"""A trial is taken when so many times what it is expected to take is left: expectations are means."""


@final
class Deadline:
    """The end of a job, by this process's own monotonic clock.

    Parameters
    ----------
    seconds : float or None
        From now to the end; None where there is none.
    clock : callable, optional
        Seconds, monotonic. Default ``time.monotonic``.

    Examples
    --------
    >>> deadline = Deadline(100.0, clock=lambda: 0.0)
    >>> deadline.left, deadline.admits(50.0, first=False), deadline.admits(60.0, first=False)
    (80.0, True, False)
    >>> deadline.admits(600.0, first=True)
    True
    >>> deadline.at_most(30.0)
    >>> deadline.left
    10.0
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._end = math.inf if seconds is None else self._began + seconds

    @property
    def left(self) -> float:
        """Seconds in which trials may run; infinity where there is no end."""
        return self._end - self._clock() - RESERVE

    @property
    def whole(self) -> float:
        """Seconds in which a trial may run that begins with the job; infinity where there is no end."""
        return self._end - self._began - RESERVE

    def at_most(self, seconds: float) -> None:
        """Learn that the end is no further away than this."""
        self._end = min(self._end, self._clock() + seconds)

    def admits(self, expected: float | None, *, first: bool) -> bool:
        """Whether a trial may begin now.

        Parameters
        ----------
        expected : float or None
            Seconds that it is expected to take. None where nothing tells: it then gets half of a job at least.
        first : bool
            Whether it would be the first of this job. What does not fit then fits in no other job either, and only
            trying can tell.
        """
        if first:
            return self.left > 0
        return self.left >= (self.whole / 2 if expected is None else MARGIN * expected)
