"""The jobs of one study: as many as there is work for, each replaced when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.slurm.cluster import Cluster, Job, RefusedError
from lrscale.launch.slurm.heart import BEAT, Pulses
from lrscale.launch.slurm.queue import JobQueue
from lrscale.launch.slurm.script import job_script, sbatch_options
from lrscale.launch.slurm.states import HELD, OUTSIDE, PERMANENT, WORDS, is_limit, is_transient, remedy_for
from lrscale.recipe import SlurmSettings

LOG_LINES = 15
LOG_BYTES = 1 << 14
LINE_LENGTH = 400
FRUITLESS = 2
"""Jobs in a row that end without taking a trial, after which it is no accident."""
UNLUCKY = 5
"""The same, where each ended for a reason outside it."""
SILENT = 3 * BEAT
"""Seconds of silence after which a job that SLURM does not list is over."""
SLOW_START = 300.0
"""Seconds that set-up lines and the start of Python may take before a word is said about it."""
OUT_OF_REACH = 900.0
"""Seconds after which a controller that does not answer ends the run, if there is no job to wait for."""


@final
class Fleet:
    """Submits, watches and cancels the jobs that serve a queue.

    Parameters
    ----------
    queue : JobQueue
        What they serve.
    settings : SlurmSettings
        The recipe's wishes.
    name : str
        Name of the study's jobs, by which they are found again.
    study : Path
        The study folder, absolute.
    nodes : int
        Nodes of one trial.
    ranks : int
        Ranks that run on a node at once.
    at_once : int
        Trials that run in a job at once.
    note : callable
        Told what the user should know.
    """

    def __init__(
        self,
        queue: JobQueue,
        settings: SlurmSettings,
        *,
        name: str,
        study: Path,
        nodes: int,
        ranks: int,
        at_once: int,
        note: Callable[[str], None],
    ) -> None:
        self._cluster = Cluster()
        self._queue = queue
        self._settings = settings
        self._name = name
        self._study = study
        self._nodes = nodes
        self._ranks = ranks
        self._at_once = at_once
        self._note = note
        self._pulses = Pulses()
        self._jobs: dict[str, Job] = {}
        self._told: dict[str, str] = {}
        self._looked_at: float | None = None
        self._answered_at = time.monotonic()
        self._fruitless: list[Job] = []
        self._without_worker: dict[str, float] = {}

    @property
    def live(self) -> list[Job]:
        """The jobs that wait or run."""
        return [job for job in self._jobs.values() if not job.ended]

    def tend(self, unfinished: int) -> None:
        """Look after the jobs, if it is time to: take back what dead ones held, and submit where one is missing.

        Parameters
        ----------
        unfinished : int
            Trials that have not ended.

        Raises
        ------
        LrscaleError
            When jobs cannot be had, or end without a trial, for a reason that the user must remove.
        """
        self._pulses.look(self._queue.hearts())
        self._take_back_from_silent()
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < self._settings.poll:
            return
        first = self._looked_at is None
        self._looked_at = now
        listed = self._cluster.jobs(self._name)
        if listed is None:
            if now - self._answered_at > OUT_OF_REACH and not self.live:
                raise StudyError(
                    f"SLURM has not answered for {OUT_OF_REACH / 60:.0f} minutes", hint="run it again when squeue works"
                )
            self._tell("", "SLURM does not answer; jobs that run go on, and it is asked again")
            return
        self._answered_at = now
        self._told.pop("", None)
        if first and (running := [job for job in listed.values() if not job.ended]):
            self._note(f"{_jobs(running)} of an earlier run {'goes' if len(running) == 1 else 'go'} on")
        self._follow(listed, first=first)
        self._submit_missing(unfinished)

    def dismiss(self, *, kindly: bool, within: float) -> bool:
        """End all jobs; whether none is left.

        Parameters
        ----------
        kindly : bool
            Whether those that run are let end by themselves, which they do when the queue is closed.
        within : float
            Seconds to wait for that.
        """
        listed = self._cluster.jobs(self._name)
        live = [job for job in (self._jobs if listed is None else listed).values() if not job.ended]
        running = [job for job in live if job.state in ("RUNNING", "COMPLETING")]
        self._cluster.cancel([job.job_id for job in live if not kindly or job not in running])
        deadline = time.monotonic() + within
        while live and time.monotonic() < deadline:
            time.sleep(0.5)
            listed = self._cluster.jobs(self._name)
            live = live if listed is None else [job for job in listed.values() if not job.ended]
        if kindly:
            self._cluster.cancel([job.job_id for job in live])
        return not live

    def _follow(self, listed: Mapping[str, Job], *, first: bool) -> None:
        """Compare what SLURM lists with what was known, and act on jobs that have ended."""
        hearts = self._queue.hearts()
        holders = {claim.worker for claims in self._queue.claimed().values() for claim in claims}
        known = set(self._jobs) | {worker for worker in holders if worker.isdigit()}
        for job_id in known - set(listed):
            if job_id in self._jobs and self._jobs[job_id].ended:
                continue
            # Just submitted, or the list was incomplete: a job that gives signs of life is no dead one.
            if self._pulses.silence(job_id) > SILENT:
                self._end(self._cluster.end_of(job_id))
        for job_id, job in listed.items():
            before = self._jobs.get(job_id)
            if job.ended:
                if job_id in holders or (before is not None and not before.ended):
                    self._end(job)
                continue
            self._jobs[job_id] = job
            if job.state == "RUNNING" and (before is None or before.state != "RUNNING") and not first:
                self._note(f"job {job_id} runs on {job.nodes}")
            elif job.state == "PENDING":
                self._explain(job)
            if job.state == "RUNNING" and job_id not in hearts:
                self._wonder_at(job_id)

    def _end(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        tail = self.log_tail(job.job_id)
        held = [claim for claims in self._queue.claimed().values() for claim in claims if claim.worker == job.job_id]
        # What it has published counts, though it was killed before it could remove its claim.
        done = self._queue.done()
        held = [claim for claim in held if claim.key not in done]
        for claim in held:
            why = {"job": job.job_id, "cause": job.state, "beside": len(held) - 1, "log": tail}
            self._queue.give_back(claim, why)
        said = self._queue.hearts().get(job.job_id, {})
        took = int(said.get("taken", 0)) > 0 or bool(held)
        if took:
            self._fruitless.clear()
        elif job.state != "COMPLETED" or self._queue.waiting():
            self._fruitless.append(job)
        where = f" on {job.nodes}" if job.nodes else ""
        back = f"; {len(held)} of its trials will run again" if held else ""
        if job.state != "COMPLETED" or held:
            self._note(f"job {job.job_id}{where} {WORDS.get(job.state, job.state)}{back}")
        self._judge(job, tail)

    def _judge(self, job: Job, tail: Sequence[str]) -> None:
        """Refuse to go on submitting jobs that do nothing."""
        blamed = [one for one in self._fruitless if one.state not in OUTSIDE]
        if len(blamed) < FRUITLESS and len(self._fruitless) < UNLUCKY:
            return
        shown = "".join(f"\n  {line}" for line in tail)
        raise StudyError(
            f"{len(self._fruitless)} jobs in a row ended without taking a trial; job {job.job_id} "
            f"{WORDS.get(job.state, job.state)}, and its log ends with:{shown or ' nothing'}",
            hint=f"check slurm.setup, slurm.python and slurm.time; the log is {self._queue.log_path(job.job_id)}",
        )

    def _wonder_at(self, job_id: str) -> None:
        """Say once that a job runs whose worker has not begun."""
        since = self._without_worker.setdefault(job_id, time.monotonic())
        if time.monotonic() - since > SLOW_START:
            log = self._queue.log_path(job_id)
            text = (
                f"job {job_id} has run for {SLOW_START / 60:.0f} minutes and its worker has not begun; its log is {log}"
            )
            self._tell(f"{job_id} begins", text)

    def _explain(self, job: Job) -> None:
        word = job.reason.partition(",")[0]
        if word in PERMANENT:
            raise StudyError(f"job {job.job_id} can never start: SLURM says {job.reason}", hint=PERMANENT[word])
        if word in ("", "None", "Priority", "Resources"):
            if job.job_id not in self._told and word in ("Priority", "Resources"):
                self._tell(job.job_id, f"job {job.job_id} waits in SLURM's queue ({word})")
            return
        known = f": {HELD[word]}" if word in HELD else ""
        self._tell(job.job_id, f"job {job.job_id} waits in SLURM's queue ({job.reason}){known}")

    def _take_back_from_silent(self) -> None:
        done = self._queue.done()
        for claims in self._queue.claimed().values():
            for claim in claims:
                job = self._jobs.get(claim.worker)
                paused = job is not None and job.state in ("SUSPENDED", "STOPPED", "RESIZING", "SIGNALING")
                if paused or self._pulses.silence(claim.worker) <= self._settings.lost_after or claim.key in done:
                    continue
                if claim.worker.isdigit():
                    # If it lives after all, it must not meet the one that the trial is given to; its files are its own.
                    self._cluster.cancel([claim.worker])
                self._queue.give_back(claim, {"job": claim.worker, "cause": "GONE", "beside": 0})
                self._note(
                    f"worker {claim.worker} is silent for {self._settings.lost_after:.0f} s; its trial runs again"
                )

    def _submit_missing(self, unfinished: int) -> None:
        hearts = self._queue.hearts()
        live = self.live
        serving = [job for job in live if hearts.get(job.job_id, {}).get("state") != "closing"]
        wanted = -(-unfinished // self._at_once) - len(serving)
        for _ in range(min(wanted, self._settings.max_jobs - len(live))):
            if not self._submit():
                return

    def _submit(self) -> bool:
        wishes = {"nodes": self._nodes, "ranks": self._ranks}
        options = sbatch_options(self._settings, name=self._name, log=self._queue.log_path("%j"), **wishes)
        try:
            job_id = self._cluster.submit(options, job_script(self._settings, study=self._study, **wishes))
        except RefusedError as error:
            refusal = str(error)
            last = refusal.splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ")
            # After a time-out the job may have been submitted all the same: the next look at the queue tells.
            if is_transient(refusal):
                self._tell("sbatch", f"sbatch is not answered ({last}); it is asked again")
                return False
            if is_limit(refusal) and self.live:
                self._tell("sbatch", f"SLURM takes no further job of yours now ({last}); there is {_jobs(self.live)}")
                return False
            hint = "wait until other jobs of yours have ended" if is_limit(refusal) else remedy_for(refusal)
            raise LrscaleError(f"SLURM refuses the job: {last}", hint=hint or "see slurm in the recipe") from error
        self._told.pop("sbatch", None)
        self._jobs[job_id] = Job(job_id, "PENDING")
        self._note(f"job {job_id} submitted")
        return True

    def log_tail(self, job_id: str) -> tuple[str, ...]:
        """Return the last lines that a job printed."""
        try:
            with self._queue.log_path(job_id).open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(max(0, size - LOG_BYTES))
                text = stream.read().decode("utf-8", errors="replace")
        except OSError:
            return ()
        return tuple(line[:LINE_LENGTH] for line in text.strip().splitlines()[-LOG_LINES:])

    def _tell(self, about: str, text: str) -> None:
        """Say something once, until something else is said of the same."""
        if self._told.get(about) != text:
            self._told[about] = text
            self._note(text)


def _jobs(jobs: Sequence[Job]) -> str:
    numbers = ", ".join(job.job_id for job in jobs)
    return f"job {numbers}" if len(jobs) == 1 else f"jobs {numbers}"
