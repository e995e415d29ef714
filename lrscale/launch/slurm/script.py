"""What is submitted: the options of sbatch and the script of a worker job. Pure text."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

from lrscale.recipe import SlurmSettings

NOTICE_SIGNAL = signal.SIGURG
"""By which SLURM tells it. It reaches every process of the job, ranks and data-loader workers too, so it must be one
that is ignored where nobody waits for it."""
NOTICE = 90
"""Seconds before its time limit at which SLURM tells a job so; it may do that up to a minute earlier (sbatch(1))."""


def sbatch_options(settings: SlurmSettings, *, name: str, log: Path, nodes: int, ranks: int) -> list[str]:
    """Return the options of sbatch for a worker job.

    Parameters
    ----------
    settings : SlurmSettings
        The recipe's wishes.
    name : str
        By which the jobs of a study are found again.
    log : Path
        What the job prints; ``%j`` stands for its number.
    nodes : int
        Nodes of one trial, the default of those of a job.
    ranks : int
        Ranks that run on a node at once, the default of its cores.

    Examples
    --------
    >>> wishes = SlurmSettings(partition="gpu", time="90m", gpus="2")
    >>> options = sbatch_options(wishes, name="lrscale-ab", log=Path("/s/%j.log"), nodes=1, ranks=2)
    >>> options[-3:]
    ['--partition=gpu', '--time=90', '--gpus-per-node=2']
    """
    cores = _cores(settings, ranks)
    wishes = {
        "job-name": name,
        "output": log,
        "open-mode": "append",
        # A job that SLURM starts again by itself would meet its own claims; the driver submits another.
        "no-requeue": None,
        "signal": f"{int(NOTICE_SIGNAL)}@{NOTICE}",
        "nodes": settings.nodes or nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": cores,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": None if settings.seconds is None else -(-settings.seconds // 60),
        "gpus-per-node": settings.gpus,
        "constraint": settings.constraint,
        "mem": settings.mem,
    }
    options = [f"--{key}={value}" for key, value in wishes.items() if value is not None]
    return ["--no-requeue", *options, *settings.extra]


def job_script(settings: SlurmSettings, *, study: Path, nodes: int, ranks: int) -> str:
    """Return the script of a worker job: the set-up lines, then one worker a node.

    Parameters
    ----------
    settings : SlurmSettings
        The recipe's wishes.
    study : Path
        The study folder, absolute.
    nodes, ranks : int
        As for `sbatch_options`.
    """
    cores = _cores(settings, ranks)
    command = [
        *("srun", f"--nodes={settings.nodes or nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "--input=none"),
        # Since SLURM 22.05 a step does not take this over from its job.
        *([] if cores is None else [f"--cpus-per-task={cores}"]),
        *(settings.python or sys.executable, "-m", "lrscale", "worker", str(study), f"--idle={settings.idle:g}"),
    ]
    return "\n".join(["#!/bin/bash", "set -e", *settings.setup, f"exec {shlex.join(command)}", ""])


def _cores(settings: SlurmSettings, ranks: int) -> int | None:
    # Clusters with GPUs give out cores with them.
    return ranks if settings.cpus_per_task is None and not settings.asks_for_gpus else settings.cpus_per_task
