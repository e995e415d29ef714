"""Linear algebra on one thread.

A step of the planner is some thousand products and factors of matrices of ten rows. Threads gain nothing there, and
where other processes train on the same cores each waits for the other: a step took 10 to 20 times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the BLAS of NumPy and SciPy to one thread of this process; also a decorator.

    Examples
    --------
    >>> import numpy as np
    >>> with one_thread():
    ...     (np.eye(2) @ np.ones(2)).tolist()
    [1.0, 1.0]
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    # Looking for the libraries of a process takes milliseconds. Those of NumPy and SciPy are there by now.
    return ThreadpoolController()
