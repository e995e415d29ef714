"""What a rank is given: the job file that all ranks of a trial read, and the variables that tell it which one it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrscale.launch.base import LaunchSettings
from lrscale.launch.devices import cpu_count, free_port
from lrscale.store.files import to_json, write_atomically
from lrscale.units import Layout

ENTRY = "lrscale.training.rank"
"""Module whose ``main(job_path)`` a rank runs."""


def clear_traces(folder: Path) -> None:
    """Remove what an earlier attempt has left, so that none of it is taken for the next one's."""
    for pattern in ("outcome-*.json", "trajectory.*", "rank-*.log"):
        for stale in folder.glob(pattern):
            stale.unlink()


def write_job(
    folder: Path,
    job: Mapping[str, Any],
    *,
    settings: LaunchSettings,
    layout: Layout,
    accelerator: str,
    rendezvous: Path,
    threads: int,
) -> Path:
    """Write the job file and return its absolute path.

    Parameters
    ----------
    folder : Path
        Where the ranks leave their trajectory, outcomes and logs.
    job : mapping
        ``spec``, ``purpose`` (``"train"`` or ``"inspect"``) and ``instruments``.
    settings : LaunchSettings
        The task's root and import paths.
    layout : Layout
        Split of the global batch.
    accelerator : {"cpu", "gpu"}
        Resolved kind.
    rendezvous : Path
        A file that does not exist yet, by which the ranks of one machine meet.
    threads : int
        CPU threads of each rank.
    """
    path = folder.resolve() / "job.json"
    whole = {
        **job,
        "root": str(settings.root.resolve()),
        "import_paths": list(settings.import_paths),
        "layout": {
            "per_device_batch_size": layout.per_device_batch_size,
            "accumulate": layout.accumulate,
            "devices": layout.devices,
            "num_nodes": layout.num_nodes,
        },
        "folder": str(folder.resolve()),
        "accelerator": accelerator,
        "rendezvous": str(rendezvous),
        "threads": threads,
    }
    write_atomically(path, to_json(whole))
    return path


def rank_threads(world_size: int, trials_at_once: int) -> int:
    """Return the CPU threads of a rank: OMP_NUM_THREADS where it is set, else a fair share of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, cpu_count() // (world_size * trials_at_once))


def group_environment(
    key: str, world_size: int, *, threads: int, gpus: tuple[str, ...], extra: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the variables that all ranks of a group on one machine share.

    torchelastic's variables come first in Lightning's search, also inside a SLURM allocation
    (lightning.pytorch.trainer.connectors.accelerator_connector).
    """
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "TORCHELASTIC_RUN_ID": key,
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "OMP_NUM_THREADS": str(threads),
    }
    if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
        # Without it gloo resolves the host's name, which hangs or fails on machines whose name has no address.
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return {**environment, **(extra or {})}
