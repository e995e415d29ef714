"""One writer at a time for a study folder, also on file systems that know no locks."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lrscale.errors import StudyError
from lrscale.store.files import write_atomically

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
"""File that is locked; the operating system gives the lock back when its holder dies."""
HELD = ".held"
"""File that stands for the lock where the file system has none: it is there while the folder is held."""
HOLDER = ".holder"
"""File that says who holds the folder, for messages."""
WITHOUT_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})
"""What flock(2) says on Lustre that is mounted without the option ``flock``, on some parallel file systems, and on NFS
whose server does not lock."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a study folder for writing; it is made where it is not there.

    Raises
    ------
    StudyError
        When another process holds it, naming that process, or when the folder cannot be written.
    """
    from filelock import Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder)
    except Timeout as error:
        # A file, unlike a lock, outlives a holder that is killed.
        left = (folder / HELD).exists()
        after = f"; if it is gone, remove {folder / HELD}" if left else ", or choose another --study"
        raise StudyError(f"study folder {folder} is in use by {_holder(folder)}", hint=f"wait for it{after}") from error
    except OSError as error:
        raise StudyError(
            f"study folder {folder} cannot be written: {error.strerror}", hint="choose another --study"
        ) from error
    try:
        write_atomically(folder / HOLDER, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process of this machine, or of another that shares the file system's locks, is writing to a study.

    A shared lock is asked for and given back at once. The folder may be a read-only copy.
    """
    import fcntl

    if (folder / HELD).exists():
        return True
    try:
        with (folder / LOCK).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # No lock file, or a file system without locks: nothing says that anybody writes.
        return False
    return False


def _acquired(folder: Path) -> BaseFileLock:
    from filelock import FileLock, SoftFileLock

    with warnings.catch_warnings():
        # filelock tells that it does without; what follows from that is told where it matters.
        warnings.simplefilter("ignore")
        try:
            lock: BaseFileLock = FileLock(folder / LOCK, timeout=0)
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            # Older releases of filelock raise NotImplementedError for ENOSYS; newer ones do without by themselves.
            if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
                raise
            lock = SoftFileLock(folder / HELD, timeout=0)
            lock.acquire()
    return lock


def _holder(folder: Path) -> str:
    try:
        return (folder / HOLDER).read_text(encoding="utf-8")
    except OSError:
        return "another process"
