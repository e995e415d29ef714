"""Which devices this machine has, found without loading torch."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from typing import final

from lrscale.errors import LayoutError


def visible_gpus() -> list[str]:
    """Return the names by which CUDA_VISIBLE_DEVICES may pick this machine's GPUs; empty where there is none.

    ``CUDA_VISIBLE_DEVICES`` itself is honoured when it is set; otherwise ``nvidia-smi`` is asked.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = (name.strip() for name in chosen.split(","))
        # CUDA ignores everything from the first invalid name on; -1 is the usual one.
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(index) for index in range(count)]


UNCOUNTED = 1 << 20
"""Trials side by side where nothing is counted: more than anyone asks for."""


def resolve_accelerator(accelerator: str) -> str:
    """Return ``"gpu"`` or ``"cpu"``; ``"auto"`` takes GPUs where there are any.

    Raises
    ------
    LayoutError
        When GPUs are asked for and none is visible.
    """
    found = visible_gpus() if accelerator in ("auto", "gpu") else []
    if accelerator == "gpu" and not found:
        raise LayoutError("layout.accelerator is gpu, but no GPU is visible", hint="set layout.accelerator: cpu")
    return "gpu" if found else "cpu"


@final
class DevicePool:
    """The devices of one machine, lent to trials that run side by side.

    Parameters
    ----------
    accelerator : {"cpu", "gpu"}
        Resolved kind.
    names : sequence of str or None, optional
        Names of the GPUs, or of as many places for ranks on CPU as there are. Default None: no GPU, and on CPU ranks
        are not counted.

    Examples
    --------
    >>> pool = DevicePool("gpu", ["0", "1", "2"])
    >>> pool.take(2), pool.take(2)
    (('0', '1'), None)
    >>> pool.give_back(("0", "1"))
    >>> pool.take(3)
    ('0', '1', '2')
    """

    def __init__(self, accelerator: str, names: Sequence[str] | None = None) -> None:
        self._counted = accelerator == "gpu" or names is not None
        self._order = {name: place for place, name in enumerate(names or ())}
        self._free = list(names or ())

    @classmethod
    def of_this_machine(cls, accelerator: str) -> DevicePool:
        """Return a pool of what is visible."""
        return cls(accelerator, visible_gpus() if accelerator == "gpu" else None)

    def check(self, devices: int, trials_at_once: int) -> None:
        """Refuse a layout that this machine does not have.

        Raises
        ------
        LayoutError
            When there are fewer GPUs than `devices` x `trials_at_once`.
        """
        have = len(self._order)
        if self._counted and devices * trials_at_once > have:
            wanted = (
                f"{devices} devices" if trials_at_once == 1 else f"{trials_at_once} trials at once x {devices} devices"
            )
            raise LayoutError(
                f"{wanted} need {devices * trials_at_once} GPUs; {have} are visible",
                hint=f"set layout.devices or layout.trials_at_once so that their product is at most {have}",
            )

    def holds(self, devices: int) -> int:
        """Return how many trials with so many ranks have room here side by side when nothing else runs."""
        return len(self._order) // devices if self._counted else UNCOUNTED

    def free_for(self, devices: int) -> int:
        """Return how many more have room now."""
        return len(self._free) // devices if self._counted else UNCOUNTED

    def take(self, devices: int) -> tuple[str, ...] | None:
        """Lend devices for so many ranks: none where they are not counted, None when too few are free."""
        if not self._counted:
            return ()
        if devices > len(self._free):
            return None
        taken, self._free = self._free[:devices], self._free[devices:]
        return tuple(taken)

    def give_back(self, names: Sequence[str]) -> None:
        """Take back what was lent."""
        self._free = sorted([*self._free, *names], key=self._order.__getitem__)


def cpu_count() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that was free a moment ago, at an address of this machine; the empty one stands for all."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
