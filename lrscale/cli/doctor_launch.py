"""``lrscale doctor --launch``: train a few steps by every launcher that can be started from here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrscale.cli.doctor import check_ranks, judge, rehearsal_settings, rehearse, show
from lrscale.cli.doctor_checks import Check, installed
from lrscale.cli.doctor_slurm import check_slurm
from lrscale.cli.text import count
from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    from lrscale.launch.nodes import Allocation, Gathering

GROUP_TIMEOUT = 300.0
"""Seconds for two processes that load torch each."""
_FIREWALL = "check that the nodes may connect to each other, and set GLOO_SOCKET_IFNAME to the network that they share"


def examine_launchers() -> int:
    """Try the ranks that this process was started with, else what a machine can start; 1 when one fails."""
    from lrscale.launch.nodes import detect

    allocation = detect(os.environ)
    if allocation is not None:
        return _examine_group(allocation)
    return show(_checks())


def _checks() -> Iterator[Check]:
    if installed("torch") is None or installed("pytorch-lightning") is None:
        yield Check(name="ranks", status="FAIL", sentence="no torch or no Lightning", remedy="see: lrscale doctor")
        return
    from lrscale.launch.devices import visible_gpus

    yield check_ranks("cpu", 2)
    gpus = len(visible_gpus())
    if gpus:
        yield check_ranks("gpu", min(2, gpus))
    yield check_nodes()
    yield check_torchrun()
    yield check_slurm()
    yield check_ray()


def check_nodes() -> Check:
    """Two nodes of one rank each, on this machine: the meeting, the connection and the rendezvous over TCP."""
    from lrscale.launch.devices import free_port

    port = free_port()
    told = [
        {
            "RANK": str(node),
            "WORLD_SIZE": "2",
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "GROUP_RANK": str(node),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "doctor",
            # Both nodes are this machine, and two ranks of NCCL cannot share a GPU.
            "CUDA_VISIBLE_DEVICES": "",
        }
        for node in range(2)
    ]
    return _run("nodes", [sys.executable, "-m", "lrscale", "doctor", "--launch"], told)


def check_torchrun() -> Check:
    """Two ranks of torchrun, where it is on the path."""
    program = shutil.which("torchrun")
    if program is None:
        return Check(
            name="torchrun",
            status="INFO",
            sentence="torchrun is not on the path",
            remedy="python -m torch.distributed.run does the same",
        )
    command = [program, "--standalone", "--nproc-per-node", "2", "-m", "lrscale", "doctor", "--launch"]
    from lrscale.launch.devices import visible_gpus

    return _run("torchrun", command, [{} if len(visible_gpus()) > 1 else {"CUDA_VISIBLE_DEVICES": ""}])


def check_ray() -> Check:
    """Whether trials can be sent to a Ray cluster; none is started."""
    if importlib.util.find_spec("ray") is None:
        return Check(name="ray", status="INFO", sentence="ray is not installed", remedy="pip install 'lrscale[ray]'")
    return Check(name="ray", status="INFO", sentence=f"ray {installed('ray') or 'of unknown version'} is installed")


def _run(name: str, command: Sequence[str], members: Sequence[Mapping[str, str]]) -> Check:
    """Run a command once for each member, each with its variables, and return what the first one found."""
    with tempfile.TemporaryDirectory(prefix="lrscale-doctor-") as folder:
        started = [
            subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "COLUMNS": "1000", "OMP_NUM_THREADS": "1", **told},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for told in members
        ]
        try:
            outputs = [process.communicate(timeout=GROUP_TIMEOUT) for process in started]
        except subprocess.TimeoutExpired:
            return Check(
                name=name,
                status="FAIL",
                sentence=f"no answer within {GROUP_TIMEOUT:.0f} s",
                remedy="check that processes may talk over the loopback interface",
            )
        finally:
            for process in started:
                process.kill()
                process.communicate()
    out, err = outputs[0]
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    passed = [line for line in lines if line.startswith("PASS")]
    if all(process.returncode == 0 for process in started) and passed:
        return Check(name=name, status="PASS", sentence=passed[-1].partition(": ")[2])
    told_of = [line for line in [*lines, *err.splitlines()] if line.startswith(("FAIL", "error", "->", "hint"))]
    words = "; ".join(" ".join(line.split()) for line in told_of[:2])
    return Check(
        name=name,
        status="FAIL",
        sentence=words or f"ended with code {started[0].returncode}: {err.strip()[-300:]}",
        remedy="trials would fail like this below " + ("torchrun" if name == "torchrun" else "torchrun and srun"),
    )


def _examine_group(allocation: Allocation) -> int:
    """Train on all ranks of a group; the folder for it lies here, where all nodes must see it."""
    from lrscale.launch.nodes import Gathering, follow

    folder = Path.cwd() / f".lrscale-doctor-{allocation.token}"
    try:
        if not allocation.leads:
            return follow(allocation, folder)
        with Gathering(allocation, folder) as gathering:
            code = show(_group_checks(gathering, folder))
            gathering.end(code)
        return code
    finally:
        if allocation.leads:
            shutil.rmtree(folder, ignore_errors=True)


def _group_checks(gathering: Gathering, folder: Path) -> Iterator[Check]:
    from lrscale.launch import AllocationLauncher

    allocation = gathering.allocation
    members, missing = gathering.wait()
    hosts = sorted({str(member.name) for member in members.values()})
    nodes = 1 + sum(member.server is not None for member in members.values())
    if missing:
        yield Check(
            name="group",
            status="FAIL",
            sentence=f"{len(missing)} of {allocation.world_size} processes have not found {folder}; there: {hosts}",
            remedy="start it in a folder on a file system that all nodes share; " + _FIREWALL,
        )
        return
    yield Check(
        name="group",
        status="PASS",
        sentence=f"{allocation.kind}: {allocation.world_size} processes on {count(nodes, 'node')} have met at "
        f"{gathering.address}",
    )
    devices = allocation.world_size // nodes
    what = f"{count(nodes, 'node')} x {count(devices, 'rank')}"
    try:
        with AllocationLauncher(rehearsal_settings(folder, "auto"), gathering) as launcher:
            record = rehearse(launcher, folder, devices=devices, num_nodes=nodes)
            what += " on GPU (NCCL)" if record.environment.get("accelerator") == "gpu" else " on CPU (gloo)"
    except LrscaleError as error:
        yield Check(name="group", status="FAIL", sentence=f"{what}: {error.message}", remedy=error.hint)
        return
    yield judge(record, "group", what, _FIREWALL)
