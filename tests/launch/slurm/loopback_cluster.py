"""A SLURM cluster on one machine: a controller and several virtual nodes on the loopback interface.

::

    python loopback_cluster.py up FOLDER [NODES]     start it; prints what to export
    python loopback_cluster.py down FOLDER           stop what was started

It has a munge daemon of its own, so that it neither needs nor disturbs one that is there, and runs as whoever starts
it. What it has not: accounting, other users and, unless asked for, limits on memory.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
CPUS = 8
"""Cores that each node claims to have (SlurmdParameters=config_overrides)."""
KILL_WAIT = 8
"""Seconds between SLURM's SIGTERM and its SIGKILL."""
CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,defer_batch
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
KillWait={kill_wait}
MinJobAge=300
"""


CGROUP = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainCores=no
"""


def can_limit_memory() -> bool:
    """Whether memory can be limited here: by root, with version 1 of control groups."""
    return os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK)


def up(folder: Path, nodes: int = 2, *, limit_memory: bool = False) -> dict[str, str]:
    """Start a cluster and return the variables by which its commands find it."""
    folder = folder.resolve()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # munged refuses a key or a socket where others can write.
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    _run(
        *("munged", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"),
        *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"),
    )
    ports = _free_ports(nodes + 1)
    host = socket.gethostname()
    lines = [
        CONF.format(host=host, user=getpass.getuser(), folder=folder, port=ports[0], kill_wait=KILL_WAIT),
        *(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[number]} CPUs={CPUS} "
            f"RealMemory=4000 State=UNKNOWN\n"
            for number in range(1, nodes + 1)
        ),
        f"PartitionName=debug Nodes=n[1-{nodes}] Default=YES MaxTime=60 State=UP OverSubscribe=NO\n",
        "PartitionName=closed Nodes=n1 MaxTime=60 State=DOWN\n",
    ]
    text = "".join(lines)
    if limit_memory:
        text = text.replace("task/none", "task/cgroup").replace("=CR_CPU\n", "=CR_CPU_Memory\n")
        (folder / "cgroup.conf").write_text(CGROUP, encoding="utf-8")
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    environment = {**os.environ, **variables}
    _run("slurmctld", "-c", environment=environment)
    for number in range(1, nodes + 1):
        (folder / "spool" / f"n{number}").mkdir(exist_ok=True)
        _run("slurmd", "-N", f"n{number}", environment=environment)
    deadline = time.monotonic() + 60
    while True:
        listed = subprocess.run(
            ["sinfo", "--noheader", "--partition=debug", "--format=%T %D"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.stdout.split() == ["idle", str(nodes)]:
            return variables
        if time.monotonic() > deadline:
            down(folder)
            raise RuntimeError(f"the cluster did not come up: {listed.stdout}{listed.stderr}; logs in {folder}")
        time.sleep(0.2)


def down(folder: Path) -> None:
    """Stop what `up` started, by the numbers that the daemons wrote down."""
    numbers = []
    for path in [*folder.glob("slurmd.*.pid"), folder / "slurmctld.pid", folder / "munged.pid"]:
        with contextlib.suppress(OSError, ValueError):
            number = int(path.read_text())
            os.kill(number, signal.SIGTERM)
            numbers.append(number)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and any(Path(f"/proc/{number}").exists() for number in numbers):
        time.sleep(0.1)


def missing() -> list[str]:
    """Return the programs that are not there."""
    return [name for name in PROGRAMS if _path(name) is None]


def _path(name: str) -> str | None:
    # Daemons lie where an ordinary user's path does not lead.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def _run(name: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
    program = _path(name)
    if program is None:
        raise RuntimeError(f"{name} is not installed")
    # A daemon keeps what it inherits: output to a pipe would never end.
    subprocess.run(
        [program, *arguments],
        env=environment,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


if __name__ == "__main__":
    action, where = sys.argv[1], Path(sys.argv[2])
    if action == "up":
        for key, value in up(where, int(sys.argv[3]) if len(sys.argv) > 3 else 2).items():
            print(f"export {key}={value}")
    else:
        down(where)
