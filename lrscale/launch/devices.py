"""Which devices this machine has, found without loading torch."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from lrscale.errors import LayoutError


def visible_gpus() -> list[str]:
    """Return the names by which CUDA_VISIBLE_DEVICES may pick this machine's GPUs; empty where there is none.

    ``CUDA_VISIBLE_DEVICES`` itself is honoured when it is set; otherwise ``nvidia-smi`` is asked.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(index) for index in range(count)]


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


def device_slots(accelerator: str, devices: int, trials_at_once: int) -> list[tuple[str, ...]]:
    """Divide this machine's devices among trials that run side by side.

    Parameters
    ----------
    accelerator : {"cpu", "gpu"}
        Resolved kind.
    devices : int
        Ranks of one trial on this machine.
    trials_at_once : int
        Trials side by side.

    Returns
    -------
    list of tuple of str
        One entry a slot: the GPUs of its ranks, empty on CPU.

    Raises
    ------
    LayoutError
        When there are fewer GPUs than that takes.
    """
    if accelerator == "cpu":
        return [() for _ in range(trials_at_once)]
    found = visible_gpus()
    needed = devices * trials_at_once
    if needed > len(found):
        raise LayoutError(
            f"{trials_at_once} trials at once x {devices} devices need {needed} GPUs; {len(found)} are visible",
            hint=f"set layout.devices or layout.trials_at_once so that their product is at most {len(found)}",
        )
    return [tuple(found[slot * devices : (slot + 1) * devices]) for slot in range(trials_at_once)]


def cpu_count() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
