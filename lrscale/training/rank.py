"""Entry of a rank: a fresh process, its process group, one job, one outcome file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from lrscale.errors import LrscaleError
from lrscale.store.files import to_json, write_atomically
from lrscale.training.cli_config import users_strategy
from lrscale.training.failure import describe_failure
from lrscale.training.inspect import inspect_task
from lrscale.training.paths import get_in_config
from lrscale.training.trial import Job, run_trial

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""A collective that waits longer fails; the launcher ends a group much sooner once one of its ranks has failed."""


MEETING_TIMEOUT = timedelta(minutes=2)
"""Ranks of several nodes that do not reach each other say so after it. They are started within the same second."""


def main(job_path: str) -> int:
    """Do the job and publish the outcome; return the exit code.

    The outcome file is renamed into place, so that a launcher sees a whole one or none, whatever kills this process.
    """
    submitted = time.time()
    rank = int(os.environ["RANK"])
    plain = json.loads(Path(job_path).read_text(encoding="utf-8"))
    folder = Path(plain["folder"])
    meeting: str | None = None
    _quiet()
    # The launcher's environment wins over its share of the cores: a user who sets one thread means it.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or plain["threads"]))
    try:
        job = Job.from_dict(plain, rank)
        if job.purpose == "inspect":
            outcome = {"kind": "result", "fields": inspect_task(job)}
        else:
            meeting = plain["rendezvous"]
            _join(job, meeting)
            meeting = None
            outcome = run_trial(job, submitted)
        _publish(folder, rank, outcome)
        return 0 if outcome["kind"] == "result" else 1
    except LrscaleError as error:
        _publish(folder, rank, {"kind": "task_error", "message": error.message, "hint": error.hint})
        return 2
    except BaseException as error:  # whatever a stranger's module raises is an outcome of this trial
        at = time.time()
        traceback.print_exc()
        failure = describe_failure(error, ranks=plain["layout"]["devices"] * plain["layout"]["num_nodes"])
        if meeting is not None and failure.status == "crashed":
            # The port was free when it was chosen; another one is tried.
            failure = dataclasses.replace(
                failure, reason=f"the ranks did not meet at {meeting}: {failure.reason}", retryable=True
            )
        _publish(folder, rank, {"kind": "failure", "at": at, "fields": dataclasses.asdict(failure)})
        return 1
    finally:
        # gloo has been seen to abort at interpreter exit, after a right result, when its group was left standing.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            with contextlib.suppress(RuntimeError):
                torch.distributed.destroy_process_group()


def _join(job: Job, rendezvous: str) -> None:
    if job.layout.world_size == 1 or torch.distributed.is_initialized():
        return
    backend = own_backend(users_strategy(job.spec.task, job.root)) or ("nccl" if job.accelerator == "gpu" else "gloo")
    if job.accelerator == "gpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Lightning uses a group that stands already. On one machine the ranks meet by a file on its disk, which needs no
    # port that another process could take between its choice and its use.
    kind, _, place = rendezvous.partition("://")
    world = job.layout.world_size
    # torch documents both classes under this name and does not list them in it, so that mypy does not find them.
    if kind == "file":
        store: Any = torch.distributed.FileStore(place, world)  # type: ignore[attr-defined]  # as said
    else:
        address, _, port = place.rpartition(":")
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]  # as said
            address, int(port), world, job.rank == 0, timeout=MEETING_TIMEOUT
        )
    store.set_timeout(COLLECTIVE_TIMEOUT)
    torch.distributed.init_process_group(
        backend, store=store, rank=job.rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
    )


def own_backend(strategy: Any) -> str | None:
    """Return the process group's backend that a strategy of the user's names; None where it names none.

    Examples
    --------
    >>> own_backend({"class_path": "DDPStrategy", "init_args": {"process_group_backend": "gloo"}})
    'gloo'
    >>> own_backend("ddp") is None
    True
    """
    named = get_in_config({"strategy": strategy}, "strategy.process_group_backend")
    return None if named is None else str(named)


def _publish(folder: Path, rank: int, outcome: dict[str, Any]) -> None:
    write_atomically(folder / f"outcome-{rank}.json", to_json(outcome), durable=False)


def _quiet() -> None:
    # A trial's log is read when it fails; Lightning's greetings and hints would bury the reason.
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning).*")
