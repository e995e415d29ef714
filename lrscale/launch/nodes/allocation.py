"""The worker group that torchrun or srun has started this process in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final, get_args

from lrscale.errors import StudyError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
"""What torchrun tells a worker (torch.distributed.elastic.agent.server.local_elastic_agent)."""
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID")
"""What slurmd tells the task of a step (srun(1), output environment variables)."""
FIRST_SPECIAL_STEP = 0xFFFFFFF0
"""Numbers from here on are SLURM's own steps: the batch script, the shell of salloc (slurm/slurm.h)."""

Kind = Literal["torchrun", "srun"]
WORKER_GROUPS: tuple[Kind, ...] = get_args(Kind)
"""Launchers whose ranks somebody else has started."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One process among those that were started together.

    Rank 0 plans: it is the leader. On every other node the process of local rank 0 serves it; the others wait for the
    end.
    """

    kind: Kind
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    """Ranks of this node; other nodes may have other numbers."""
    node: int
    """Number of this node."""
    num_nodes: int
    token: str
    """The same in all processes of the group, and in no other group that runs now."""
    meeting_hint: str | None = None
    """Name or address of a machine whose network the nodes share: that of rank 0, or of srun."""

    @property
    def leads(self) -> bool:
        """Whether this process plans."""
        return self.rank == 0

    @property
    def acts(self) -> bool:
        """Whether this process starts the ranks of its node."""
        return self.local_rank == 0

    @property
    def one_node(self) -> bool:
        """Whether all ranks are on this node."""
        return self.num_nodes == 1


def detect(environ: Mapping[str, str]) -> Allocation | None:
    """Return the worker group that the environment tells of, torchrun's before SLURM's; None where there is none.

    A process that was started alone is in none: it has the whole machine, as the local launcher has. So is a batch
    script or the shell of ``salloc``, whose SLURM variables speak of tasks that nobody has started.

    Raises
    ------
    StudyError
        For variables that are no numbers.

    Examples
    --------
    >>> found = detect({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"})
    >>> found.kind, found.rank, found.node, found.leads, found.acts, found.one_node
    ('torchrun', 3, 1, False, False, False)
    >>> detect({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) is None
    True
    """
    if all(name in environ for name in TORCHRUN):
        rank, world, local, local_world, node = _numbers(environ, TORCHRUN)
        nodes = environ.get("GROUP_WORLD_SIZE", "")
        told: tuple[str, ...] = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
        kind: Kind = "torchrun"
        hint = environ.get("MASTER_ADDR")
    elif all(name in environ for name in SRUN) and _is_own_step(environ):
        rank, world, local, node = _numbers(environ, SRUN)
        local_world = _tasks_of_node(environ.get("SLURM_STEP_TASKS_PER_NODE", str(world)), node)
        told = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        nodes = environ.get("SLURM_STEP_NUM_NODES", "")
        kind = "srun"
        hint = environ.get("SLURM_LAUNCH_NODE_IPADDR")
    else:
        return None
    if world == 1:
        return None
    name = " ".join([kind, str(world), *(environ.get(variable, "") for variable in told)])
    return Allocation(
        kind=kind,
        rank=rank,
        world_size=world,
        local_rank=local,
        local_world_size=local_world,
        node=node,
        num_nodes=int(nodes) if nodes.isdigit() else -(-world // local_world),
        token=hashlib.sha256(name.encode()).hexdigest()[:16],
        meeting_hint=hint,
    )


def _is_own_step(environ: Mapping[str, str]) -> bool:
    step = environ.get("SLURM_STEP_ID", "")
    return step.isdigit() and int(step) < FIRST_SPECIAL_STEP


def _numbers(environ: Mapping[str, str], names: tuple[str, ...]) -> list[int]:
    for name in names:
        if not environ[name].isdigit():
            raise StudyError(f"{name} is {environ[name]!r} and must be a number", hint=f"unset {name}")
    return [int(environ[name]) for name in names]


def _tasks_of_node(told: str, node: int) -> int:
    """Read SLURM's short form of a list of counts.

    Examples
    --------
    >>> [_tasks_of_node("2(x3),1", node) for node in range(4)]
    [2, 2, 2, 1]
    """
    counts: list[int] = []
    for entry in told.split(","):
        count, _, times = entry.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts[node] if node < len(counts) else counts[-1]
