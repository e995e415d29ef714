"""What SLURM says of a job, and what that means for the trials that it ran."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ENDED = frozenset(
    {
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL"),
        *("DEADLINE", "REVOKED", "LAUNCH_FAILED", "GONE"),
    }
)
"""States from which a job does not come back (squeue(1), JOB STATE CODES). ``GONE`` is not SLURM's: it has forgotten
the job."""
OUTSIDE = frozenset({"CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED"})
"""Ends that no trial is to blame for."""
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "COMPLETED": "ended",
        "FAILED": "failed",
        "CANCELLED": "was cancelled",
        "TIMEOUT": "ran into its time limit",
        "NODE_FAIL": "lost its node",
        "OUT_OF_MEMORY": "ran out of memory",
        "PREEMPTED": "was preempted",
        "BOOT_FAIL": "got a node that did not come up",
        "DEADLINE": "passed its deadline",
        "REVOKED": "was moved to another cluster",
        "LAUNCH_FAILED": "could not be started on its node",
        "GONE": "is gone, and SLURM has forgotten why",
    }
)
PERMANENT: Mapping[str, str] = MappingProxyType(
    {
        "PartitionTimeLimit": "set slurm.time to what the partition allows (sinfo -o '%P %l')",
        "PartitionNodeLimit": "set slurm.nodes to what the partition allows (scontrol show partition)",
        "PartitionConfig": "the partition has no such nodes: check slurm.cpus_per_task, mem, gpus and nodes",
        "BadConstraints": "no node has what is asked for: check slurm.constraint, gpus, mem and cpus_per_task",
        "InvalidAccount": "set slurm.account to one of yours (sacctmgr show associations user=$USER)",
        "AccountNotAllowed": "the partition does not serve this slurm.account; choose another of the two",
        "InvalidQOS": "set slurm.qos to one of yours (sacctmgr show associations user=$USER)",
        "QOSNotAllowed": "the partition does not serve this slurm.qos; choose another of the two",
        "QOSMaxWallDurationPerJobLimit": "set a shorter slurm.time, or another slurm.qos",
        "AssocMaxWallDurationPerJobLimit": "set a shorter slurm.time, or another slurm.account",
        "QOSMaxNodePerJobLimit": "set fewer slurm.nodes, or another slurm.qos",
        "QOSMaxCpuPerJobLimit": "set fewer slurm.cpus_per_task, or another slurm.qos",
        "QOSMaxGRESPerJob": "set fewer slurm.gpus, or another slurm.qos",
        "QOSMaxMemoryPerJob": "set less slurm.mem, or another slurm.qos",
        "DependencyNeverSatisfied": "remove the dependency from slurm.extra",
    }
)
"""Reasons for which a job waits for ever, with the remedy (squeue(1), JOB REASON CODES)."""
HELD: Mapping[str, str] = MappingProxyType(
    {
        "JobHeldUser": "it goes on after: scontrol release",
        "JobHeldAdmin": "an administrator holds it",
        "JobLaunchFailure": "its node could not start it, and SLURM holds it: ask an administrator",
        "launch_failed_requeued_held": "its node could not start it, and SLURM holds it: ask an administrator",
        "PartitionDown": "the partition is down",
        "PartitionInactive": "the partition is inactive",
        "ReqNodeNotAvail": "the nodes that it needs are down or reserved",
        "Reservation": "it waits for its reservation",
        "BeginTime": "it may not begin before its time",
        "AssocGrpCPUMinutesLimit": "the account has used up its share",
        "AssocGrpBillingMinutes": "the account has used up its share",
        "AssocMaxJobsLimit": "the account runs as many jobs as it may; set fewer slurm.max_jobs",
        "QOSMaxJobsPerUserLimit": "you run as many jobs as you may; set fewer slurm.max_jobs",
    }
)
"""Reasons for which a job may wait long, with what there is to know."""
REFUSALS: tuple[tuple[str, str], ...] = (
    ("invalid partition", "set slurm.partition to one that is there (sinfo -s)"),
    (
        "invalid account",
        "set slurm.account and slurm.partition to a pair of yours (sacctmgr show associations user=$USER)",
    ),
    ("invalid qos", "set slurm.qos to one of yours (sacctmgr show associations user=$USER)"),
    ("time limit", "set slurm.time to what the partition allows (sinfo -o '%P %l')"),
    ("qosmaxwall", "set a shorter slurm.time, or another slurm.qos"),
    ("invalid feature", "set slurm.constraint to features that nodes have (sinfo -o '%N %f')"),
    ("generic resource", "set slurm.gpus to a kind and number that nodes have (sinfo -o '%N %G')"),
    ("node count", "set slurm.nodes to what the partition allows (scontrol show partition)"),
    (
        "node configuration",
        "no node has what is asked for: check slurm.gpus, mem, cpus_per_task and constraint (sinfo -Nl)",
    ),
    ("memory", "set slurm.mem to what nodes have (sinfo -o '%N %m')"),
    ("cpu count", "set slurm.cpus_per_task to what nodes have (sinfo -o '%N %c')"),
    ("unrecognized option", "check slurm.extra"),
    ("invalid reservation", "check --reservation in slurm.extra"),
    ("access denied", "the partition or reservation does not serve you: choose another slurm.partition or account"),
)
"""Words of sbatch's refusals, in the order in which they are looked for, with the remedy."""
LIMITS = ("submitjob", "accounting/qos policy", "job submit limit", "maxsubmit")
"""Words of refusals for the number of jobs: those that are there may go on."""
TRANSIENT = (
    *("socket timed out", "unable to contact slurm controller", "unexpected message received", "connection refused"),
    *("slurm temporarily unable", "resource temporarily unavailable", "zero bytes were transmitted"),
    *("slurmctld is in backup mode", "communication connection failure", "protocol authentication error"),
)
"""Words of failures that pass: the controller is busy, restarting or out of reach."""


def remedy_for(refusal: str) -> str | None:
    """Return what to do about a refusal of sbatch, or None where that is not known.

    Examples
    --------
    >>> remedy_for("sbatch: error: invalid partition specified: gpux")
    'set slurm.partition to one that is there (sinfo -s)'
    """
    words = refusal.lower()
    return next((remedy for sign, remedy in REFUSALS if sign in words), None)


def is_limit(refusal: str) -> bool:
    """Whether sbatch refuses a job because there are too many."""
    return any(sign in refusal.lower() for sign in LIMITS)


def is_transient(refusal: str) -> bool:
    """Whether a command failed for a reason that passes."""
    return any(sign in refusal.lower() for sign in TRANSIENT)
