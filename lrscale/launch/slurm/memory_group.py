"""How often the kernel has killed a process of this job because the job's memory was used up."""

from __future__ import annotations

from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
"""Where control groups are on Linux; in version 1 each controller has a folder of its own there."""


def oom_kills(told: Path = Path("/proc/self/cgroup"), mount: Path = MOUNT) -> int | None:
    """Return the kills so far in the memory control group of this process; None where none tells them.

    Version 1 counts them in ``memory.oom_control``, version 2 in ``memory.events`` (Linux, admin-guide/cgroup-v1/memory
    and admin-guide/cgroup-v2).

    Parameters
    ----------
    told : Path, optional
        Lists the control groups of a process. Default: of this one.
    mount : Path, optional
        Default ``/sys/fs/cgroup``.
    """
    try:
        lines = told.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return _count(mount / "memory" / path.lstrip("/") / "memory.oom_control")
        if number == "0" and (mount / "cgroup.controllers").exists():
            return _count(mount / path.lstrip("/") / "memory.events")
    return None


def _count(path: Path) -> int | None:
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    return next((int(found[1]) for found in words if found[:1] == ["oom_kill"] and found[1].isdigit()), None)
