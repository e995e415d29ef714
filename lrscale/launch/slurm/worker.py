"""The worker: takes tickets of one study and runs them with what its job was given."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.base import AbstractLauncher, LaunchSettings
from lrscale.launch.local import LocalLauncher
from lrscale.launch.nodes import Gathering, detect, follow
from lrscale.launch.nodes.launcher import AllocationLauncher
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.slurm.cluster import seconds_left
from lrscale.launch.slurm.deadline import Deadline
from lrscale.launch.slurm.heart import Heart
from lrscale.launch.slurm.leaving import LeaveError, leaving_in_time
from lrscale.launch.slurm.memory_group import oom_kills
from lrscale.launch.slurm.queue import Claim, JobQueue
from lrscale.launch.slurm.ticket import Ticket, error_to_dict, launch_settings, trial_request
from lrscale.launch.slurm.verdict import is_own, verdict
from lrscale.store import TrialRecord, TrialSpec
from lrscale.units import Layout

TICK = 0.5
"""Seconds between looks at an empty queue."""


@final
class _LogProgress(AbstractProgress):
    """What a worker's log says of its trials."""

    def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
        """Say which trial begins."""
        _say(f"trial {spec.trial_id} begins: {spec.horizon} steps on {layout.world_size} ranks")

    def note(self, text: str) -> None:
        """Repeat a sentence of the launcher."""
        _say(text)


@final
class _Worker:
    def __init__(
        self, study: Path, name: str, deadline: Deadline, idle: float, gathering: Gathering | None = None
    ) -> None:
        self._study = study
        self._queue = JobQueue(study)
        self._name = name
        self._deadline = deadline
        self._idle = idle
        self._gathering = gathering
        self._launcher: AbstractLauncher | None = None
        self._settings: LaunchSettings | None = None
        self._held: list[Claim] = []
        self._taken = 0
        self._longest: float | None = None
        self._began = time.monotonic()
        self._whole = False
        self._kills: int | None = None

    def serve(self) -> None:
        """Take tickets until none is left that this job can do."""
        for claims in self._queue.claimed().values():
            # Those of an earlier life, of a job that was started again under its number.
            for claim in claims:
                if claim.worker == self._name:
                    self._queue.give_back(claim, {"job": self._name, "cause": "RESTARTED"})
        said = {"state": "idle", "job": self._name, "node": socket.gethostname(), "process": os.getpid()}
        with Heart(self._queue.heart_path(self._name), check=self._check_claims, **said) as heart:
            try:
                self._take_all(heart)
            except LeaveError as leave:
                _say(f"leaves: {'its time is up' if leave.cause == 'time' else leave.detail or leave.cause}")
                self._dismiss()
                self._give_back(leave.cause, leave.detail)
            finally:
                heart.tell(state="closing", keys=[])
                self._dismiss()

    def _take_all(self, heart: Heart) -> None:
        since = time.monotonic()
        while not self._queue.closed:
            waiting = self._queue.waiting()
            tickets = self._claim(waiting)
            if tickets:
                self._taken += len(tickets)
                heart.tell(state="running", taken=self._taken, keys=[claim.key for claim in tickets])
                self._carry_out(tickets)
                heart.tell(state="idle", keys=[])
                since = time.monotonic()
                continue
            left = self._deadline.left
            if waiting and not self._held and left < math.inf and set(waiting) == set(self._queue.waiting()):
                _say(f"leaves: none of {len(waiting)} waiting trials can end in the {max(left, 0):.0f} s that are left")
                return
            if time.monotonic() - since >= self._idle or left <= 0:
                _say("leaves: nothing is waiting")
                return
            time.sleep(TICK)
        _say("leaves: the study needs it no more")

    def _claim(self, waiting: dict[str, int]) -> dict[Claim, Ticket]:
        """Take as many tickets as run side by side, all of one kind."""
        taken: dict[Claim, Ticket] = {}
        for key, place in waiting.items():
            seen = self._queue.ticket(key, place)
            if seen is None or not self._admits(seen, key, first=self._taken == 0 and not taken):
                continue
            if taken and not _go_together([*taken.values(), seen]):
                break
            claim = self._queue.claim(key, place, self._name)
            if claim is None:
                continue
            self._held.append(claim)
            try:
                taken[claim] = self._queue.claimed_ticket(claim)
            except StudyError as error:
                self._finish(claim, {"error": error_to_dict(error)})
        return taken

    def _admits(self, ticket: Ticket, key: str, *, first: bool) -> bool:
        past = self._queue.past(key)
        if past and ticket.work["kind"] == "train" and verdict(ticket.name, Layout(**ticket.work["layout"]), past):
            # The driver is about to give it up.
            return False
        if not first and self._deadline.left < math.inf and any(attempt.get("cause") == "time" for attempt in past):
            # It did not end in what another job had left: it gets one from the beginning.
            return False
        return self._deadline.admits(ticket.seconds if ticket.seconds is not None else self._longest, first=first)

    def _carry_out(self, tickets: dict[Claim, Ticket]) -> None:
        self._began = time.monotonic()
        self._whole = self._taken == len(tickets)
        first = next(iter(tickets))
        try:
            if tickets[first].work["kind"] == "inspect":
                ticket = tickets[first]
                facts = self._ready(ticket).inspect(
                    ticket.work["job"], Layout(**ticket.work["layout"]), self._queue.run_folder(first)
                )
                self._finish(first, {"facts": facts})
            else:
                self._train(tickets)
        except LrscaleError as error:
            if self._lost_nodes():
                # What does not fit the nodes that are left fits another job.
                raise LeaveError("NODE_FAIL") from error
            if isinstance(error, StudyError) and not self._tried_before(tickets):
                # A fault of this machine, such as a full disk or no memory to start from: another may do better.
                raise LeaveError("FAILED", str(error)) from error
            # It ends the study, whichever of the trials met it.
            _say(f"{type(error).__name__}: {error}")
            left = next((claim for claim in tickets if claim in self._held), None)
            if left is not None:
                self._finish(left, {"error": error_to_dict(error)})
            self._give_back("error")

    def _train(self, tickets: dict[Claim, Ticket]) -> None:
        requests = {
            claim.key: trial_request(ticket, self._queue.run_folder(claim)) for claim, ticket in tickets.items()
        }
        claims = {requests[claim.key].spec.trial_id: claim for claim in tickets}
        launcher = self._ready(next(iter(tickets.values())))
        self._kills = oom_kills()
        for ended in launcher.run(list(requests.values()), _LogProgress()):
            record = self._blamed(ended)
            _say(f"trial {record.trial_id} {record.status}" + (f": {record.reason}" if record.reason else ""))
            if record.retryable and self._lost_nodes():
                raise LeaveError("NODE_FAIL")
            self._longest = max(self._longest or 0.0, record.timing.get("total", 0.0))
            self._finish(claims[record.trial_id], {"record": record.to_dict()})

    def _blamed(self, record: TrialRecord) -> TrialRecord:
        """Return a record that names the job's memory where that is what its processes were killed for."""
        kills = oom_kills()
        if record.status != "crashed" or not record.retryable or not kills or kills == self._kills:
            return record
        return dataclasses.replace(
            record,
            status="out_of_memory",
            reason=f"{record.reason}; the job's memory was used up: set more slurm.mem",
            retryable=False,
        )

    def _ready(self, ticket: Ticket) -> AbstractLauncher:
        settings = launch_settings(ticket, self._study)
        if self._launcher is None or settings != self._settings:
            self._dismiss()
            group = self._gathering
            launcher = LocalLauncher(settings) if group is None else AllocationLauncher(settings, group)
            self._launcher, self._settings = launcher.__enter__(), settings
        return self._launcher

    def _dismiss(self) -> None:
        if self._launcher is not None:
            self._launcher.__exit__(None, None, None)
            self._launcher = None

    def _lost_nodes(self) -> bool:
        if self._gathering is None:
            return False
        members, missing = self._gathering.wait(0)
        return bool(missing) or any(one.server is not None and one.server.gone for one in members.values())

    def _finish(self, claim: Claim, outcome: dict[str, Any]) -> None:
        # First: a claim that is held and not there has been given to another.
        self._held.remove(claim)
        self._queue.finish(claim, outcome)

    def _tried_before(self, tickets: Mapping[Claim, Ticket]) -> bool:
        return any(is_own(attempt) for claim in tickets for attempt in self._queue.past(claim.key))

    def _give_back(self, cause: str, detail: str | None = None) -> None:
        held, self._held = self._held, []
        for claim in held:
            why: dict[str, Any] = {"job": self._name, "cause": cause, "beside": len(held) - 1}
            if detail is not None:
                why["log"] = [detail]
            if cause == "time":
                why |= {"whole": self._whole, "had": time.monotonic() - self._began}
            self._queue.give_back(claim, why)

    def _check_claims(self) -> None:
        # In the heart's thread. A claim that is gone was given to another, who must not be met in the trial.
        with suppress(OSError):
            gone = [claim for claim in list(self._held) if not self._queue.holds(claim)]
            if not any(claim in self._held for claim in gone):
                return
            _say(f"{gone[0].key} was given to another, because this worker was silent for too long")
            os.kill(os.getpid(), signal.SIGTERM)


def serve(study: Path, *, idle: float) -> int:
    """Serve the queue of a study from inside a job, or from any machine that sees the folder.

    Parameters
    ----------
    study : Path
        The study folder.
    idle : float
        Seconds to wait for a ticket before leaving.

    Returns
    -------
    int
        0: leaving is no failure, and what was not ended waits for another.

    Raises
    ------
    StudyError
        When no queue is there.
    """
    if not JobQueue(study).folder.is_dir():
        raise StudyError(f"nobody asks for trials in {study}", hint="start: lrscale run RECIPE --launcher slurm")
    study = study.resolve()
    job = os.environ.get("SLURM_JOB_ID")
    allocation = detect(os.environ)
    if allocation is not None and not allocation.leads:
        return follow(allocation, study)
    name = job if job is not None else f"{socket.gethostname()}-{os.getpid()}"
    deadline = Deadline(None if job is None else seconds_left(job))
    limit = "no time limit" if deadline.left == math.inf else f"{deadline.left:.0f} s for trials"
    _say(f"worker {name} on {socket.gethostname()} with {limit}")
    with leaving_in_time(deadline), suppress(LeaveError):
        if allocation is None:
            _Worker(study, name, deadline, idle).serve()
        else:
            with Gathering(allocation, study) as gathering:
                _Worker(study, name, deadline, idle, gathering).serve()
                gathering.end(0)
    return 0


def _go_together(tickets: list[Ticket]) -> bool:
    """Whether tickets run side by side: trials of the same settings, as many as those allow."""
    first = tickets[0].work
    if any(ticket.work["kind"] != "train" or ticket.work["settings"] != first["settings"] for ticket in tickets):
        return False
    at_once = first["settings"]["trials_at_once"]
    return len(tickets) <= (at_once if isinstance(at_once, int) else 1)


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
