"""What a rank is given: the job file that all ranks of a trial read, and the variables that tell it which one it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.launch.base import LaunchSettings, TrialRequest
from lrscale.launch.devices import cpu_count
from lrscale.store.files import to_json, write_atomically
from lrscale.units import Layout

ENTRY = "lrscale.training.rank"
"""Module whose ``main(job_path)`` a rank runs."""


def train_job(request: TrialRequest) -> dict[str, Any]:
    """Return the job of a trial, as `write_job` takes it."""
    return {
        "spec": request.spec.to_dict(),
        "purpose": "train",
        "instruments": {name: dict(settings) for name, settings in request.instruments.items()},
        "keep": list(request.keep),
    }


def clear_traces(folder: Path) -> None:
    """Remove what an earlier attempt has left, so that none of it is taken for the next one's."""
    for pattern in ("outcome-*.json", "trajectory.*", "rank-*.log", "job-*.json"):
        for stale in folder.glob(pattern):
            stale.unlink()


def write_job(
    folder: Path,
    job: Mapping[str, Any],
    *,
    settings: LaunchSettings,
    layout: Layout,
    accelerator: str,
    rendezvous: str,
    threads: int,
    name: str = "job.json",
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
    rendezvous : str
        Where the ranks meet, as torch.distributed spells it: ``file://`` and a file of their machine that does not
        exist yet, or ``tcp://`` and an address and a port of rank 0's node.
    threads : int
        CPU threads of each rank.
    name : str, optional
        Of the file. Default ``job.json``.
    """
    home = folder.resolve()
    path = home / name
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
        "folder": str(home),
        "accelerator": accelerator,
        "rendezvous": rendezvous,
        "threads": threads,
    }
    write_atomically(path, to_json(whole), durable=False)
    return path


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A group of ranks and the part of it on one node."""

    key: str
    """Name of the group."""
    world_size: int
    local_world_size: int
    master: str = "127.0.0.1"
    """Address of rank 0's node, as the others reach it."""
    port: int
    """A port that is free there."""
    node: int = 0
    """Place of this node among those of the group."""
    nodes: int = 1
    interface: str | None = "lo"
    """Network interface of this node by which its ranks are reached; None leaves it to gloo."""


def rank_threads(ranks: int, cores: int | None = None) -> int:
    """Return the CPU threads of a rank: OMP_NUM_THREADS where it is set, else a fair share of the cores.

    Parameters
    ----------
    ranks : int
        Ranks that run on the node at the same time.
    cores : int or None, optional
        Cores of the node. Default None: those of this machine that this process may use.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, (cores if cores is not None else cpu_count()) // ranks)


def group_environment(
    world: World, *, threads: int, gpus: tuple[str, ...], extra: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the variables that the ranks of a group on one node share.

    torchelastic's variables come first in Lightning's search, also inside a SLURM allocation
    (lightning.pytorch.trainer.connectors.accelerator_connector).
    """
    environment = {
        "MASTER_ADDR": world.master,
        "MASTER_PORT": str(world.port),
        "WORLD_SIZE": str(world.world_size),
        "LOCAL_WORLD_SIZE": str(world.local_world_size),
        "GROUP_RANK": str(world.node),
        "GROUP_WORLD_SIZE": str(world.nodes),
        "TORCHELASTIC_RUN_ID": world.key,
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "OMP_NUM_THREADS": str(threads),
    }
    if sys.platform == "linux" and world.interface is not None and "GLOO_SOCKET_IFNAME" not in os.environ:
        # Without it gloo resolves the host's name, which hangs or fails on machines whose name has no address.
        environment["GLOO_SOCKET_IFNAME"] = world.interface
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return {**environment, **(extra or {})}
