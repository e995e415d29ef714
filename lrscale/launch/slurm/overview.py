"""What a queue holds, seen from any machine that sees the folder; nothing is written but a file that tells the time."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.launch.slurm.cluster import PROGRAMS, Cluster, Job
from lrscale.launch.slurm.heart import BEAT
from lrscale.launch.slurm.queue import JobQueue
from lrscale.store.files import read_json

LOST_AFTER = 10 * BEAT
"""Seconds of silence after which a worker is shown as lost. The driver decides by itself."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """A trial that a worker has taken."""

    trial_id: str
    worker: str
    node: str | None
    """Host name; None where the worker has not said it."""
    silent: float | None
    """Seconds since the worker's last sign of life; None when it has given none."""
    folder: Path
    """Where its files are."""

    @property
    def lost(self) -> bool:
        """Whether its worker seems to be dead."""
        return self.silent is None or self.silent > LOST_AFTER

    @property
    def where(self) -> str:
        """The job and the node, for people."""
        who = f"job {self.worker}" if self.worker.isdigit() else f"worker {self.worker}"
        return who if self.node is None else f"{who} on {self.node}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """The trials of a queue, and the jobs that serve it."""

    queued: Sequence[str] = ()
    """Trials that wait for a job, by id, in the order of asking."""
    at_work: Sequence[AtWork] = ()
    """Trials that are running, or were when their worker died."""
    uncollected: Sequence[str] = ()
    """Trials that have ended and that the driver has not collected yet."""
    jobs: Sequence[Job] | None = None
    """Live jobs; None where SLURM is out of reach."""
    driver: str | None = None
    """The process that runs the study, where it gives signs of life."""


def queue_overview(study: Path) -> QueueOverview | None:
    """Return what the queue of a study holds; None where there is no queue."""
    queue = JobQueue(study)
    if not (queue.folder / "waiting").is_dir():
        return None
    now = _time_there(queue.folder)
    done = queue.done()
    hearts = queue.hearts()
    at_work = [
        AtWork(
            trial_id=_trial(claim.key),
            worker=claim.worker,
            node=hearts.get(claim.worker, {}).get("node"),
            silent=_silence(queue.heart_path(claim.worker), now),
            folder=queue.run_folder(claim),
        )
        for key, claims in queue.claimed().items()
        if key not in done
        for claim in claims
    ]
    return QueueOverview(
        queued=[_trial(key) for key in queue.waiting() if key not in done],
        at_work=at_work,
        uncollected=[_trial(key) for key in done],
        jobs=_jobs(queue),
        driver=living_driver(queue),
    )


def living_driver(queue: JobQueue) -> str | None:
    """Return the process that runs the study, on whatever machine; None where none gives signs of life."""
    if not queue.driver_path.exists():
        return None
    silent = _silence(queue.driver_path, _time_there(queue.folder))
    if silent is None or silent > LOST_AFTER:
        return None
    with contextlib.suppress(StudyError):
        said: Mapping[str, Any] = read_json(queue.driver_path)
        if said.get("host") != socket.gethostname() or _runs(said.get("process")):
            return f"process {said.get('process')} on {said.get('host')}"
    return None


def _trial(key: str) -> str:
    return key.rpartition("-")[0]


def _time_there(folder: Path) -> float:
    """Return the time by the clock that stamps files there, which need not be this machine's."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".time-", suffix=".partial") as probe:
            return Path(probe.name).stat().st_mtime
    except OSError:
        # Somebody else's folder, to be read only.
        return time.time()


def _silence(path: Path, now: float) -> float | None:
    try:
        return max(0.0, now - path.stat().st_mtime)
    except OSError:
        return None


def _runs(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return True


def _jobs(queue: JobQueue) -> list[Job] | None:
    if any(shutil.which(program) is None for program in PROGRAMS):
        return None
    try:
        name = queue.name_path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    listed = Cluster().jobs(name)
    return None if listed is None else [job for job in listed.values() if not job.ended]
