"""The driver's end: asks for trials in the queue, keeps jobs at work on them, and collects what they leave."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.base import LAUNCHERS, AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.progress import AbstractProgress, SilentProgress
from lrscale.launch.slurm.cluster import Cluster
from lrscale.launch.slurm.fleet import Fleet
from lrscale.launch.slurm.heart import Heart
from lrscale.launch.slurm.overview import LOST_AFTER, living_driver
from lrscale.launch.slurm.queue import Claim, JobQueue
from lrscale.launch.slurm.ticket import Ticket, error_from_dict, inspect_ticket, train_ticket
from lrscale.launch.slurm.verdict import verdict
from lrscale.launch.tail import last_row, place_of
from lrscale.store import TrialRecord
from lrscale.store.files import write_atomically
from lrscale.units import Layout

TICK = 0.5
"""Seconds between looks at the queue's files."""
TELL = 1.0
"""Seconds between looks at how far the trials are."""
LEAVE = 15.0
"""Seconds that workers get to leave when the study has all its trials; they look every half second."""
ASK_AGAIN = 10.0
"""Seconds between the questions whether trials that wait may still start."""


@final
@LAUNCHERS.register("slurm")
class SlurmLauncher(AbstractLauncher):
    """Runs trials in SLURM jobs that it submits.

    Up to `slurm.max_jobs` jobs serve the study at once, each taking trial after trial until its time is up or nothing
    waits. The jobs outlive a driver that is killed: the next one finds them, and what they have done. A driver that
    ends by itself or is interrupted cancels them.

    Parameters
    ----------
    settings : LaunchSettings
        With the study folder, which the nodes must see under the same path.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        if settings.study is None:
            raise LrscaleError("the launcher slurm needs a study folder that the nodes see", hint="set study")
        self._study = settings.study.resolve()
        self._queue = JobQueue(self._study)
        self._fleet: Fleet | None = None
        self._heart: Heart | None = None
        self._say: Callable[[str], None] = settings.note if settings.note is not None else SilentProgress().note
        self._place = 0

    def __enter__(self) -> SlurmLauncher:
        Cluster().check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del error, trace
        if self._fleet is None or self._heart is None:
            # Nothing was begun: whatever is there belongs to a driver that holds the study.
            return
        try:
            if kind is not None and self._fleet.live:
                self._note("the jobs are cancelled; trials that they have begun will run again")
            self._queue.close()
            over = self._fleet.dismiss(kindly=kind is None, within=LEAVE if kind is None else 0.0)
            if kind is None and over:
                self._queue.clear()
        finally:
            self._heart.__exit__(None, None, None)
            self._queue.driver_path.unlink(missing_ok=True)
            self._heart = self._fleet = None

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Have trials run by jobs; see `AbstractLauncher.run`."""
        if not requests:
            return
        self._say = progress.note
        fleet = self._begin()
        tickets = {request.spec.trial_id: train_ticket(request, self._settings) for request in requests}
        left = {tickets[request.spec.trial_id].key: request for request in requests}
        self._withdraw_strangers(left)
        seen: set[str] = set()
        for key, request in list(left.items()):
            if request.may_start is not None and not request.may_start():
                del left[key]
        self._put([tickets[request.spec.trial_id] for request in left.values()])
        told_at = asked_at = time.monotonic()
        while left:
            for key, claim in self._queue.done().items():
                if key in left:
                    record = self._collect(claim, left[key])
                    if record is None:
                        continue
                    if key not in seen:
                        progress.trial_started(left[key].spec, left[key].layout)
                    del left[key]
                    yield record
                    self._queue.forget(key, claim)
            for record, key in self._given_up(left):
                del left[key]
                yield record
                self._queue.forget(key)
            claims = {key: found[-1] for key, found in self._queue.claimed().items() if key in left}
            for key in claims.keys() - seen:
                seen.add(key)
                progress.trial_started(left[key].spec, left[key].layout)
            now = time.monotonic()
            if now - asked_at > ASK_AGAIN:
                asked_at = now
                self._ask_again(left, seen)
            if now - told_at > TELL:
                told_at = now
                self._tell(claims, left, progress)
            if left:
                fleet.tend(len(left))
                time.sleep(TICK)

    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Have a job look at the task; see `AbstractLauncher.inspect`."""
        fleet = self._begin()
        ticket = inspect_ticket(job, layout, self._settings)
        self._put([ticket])
        while True:
            claim = self._queue.done().get(ticket.key)
            outcome = None if claim is None else self._queue.outcome(claim)
            if claim is not None and outcome is not None:
                folder.mkdir(parents=True, exist_ok=True)
                self._take_over(claim, outcome, folder)
                self._queue.forget(ticket.key)
                return dict(outcome["facts"])
            ended = verdict("inspect", layout, self._queue.past(ticket.key))
            if ended is not None:
                self._queue.forget(ticket.key)
                tail = "".join(f"\n  {line}" for line in ended.log_tail)
                raise StudyError(
                    f"the task could not be looked at: {ended.reason}{tail}", hint="the same command tries again"
                )
            fleet.tend(1)
            time.sleep(TICK)

    def _begin(self) -> Fleet:
        if self._fleet is None:
            other = living_driver(self._queue)
            if other is not None:
                # The lock of the study has not told: it does not reach over every shared file system.
                raise StudyError(
                    f"study folder {self._study} is in use by {other}",
                    hint=f"wait for it; if it was killed, wait {LOST_AFTER:.0f} seconds",
                )
            self._queue.open()
            self._heart = Heart(self._queue.driver_path, host=socket.gethostname(), process=os.getpid()).__enter__()
            settings, at_once = self._settings, self._settings.trials_at_once
            self._fleet = Fleet(
                self._queue,
                settings.slurm,
                name=self._job_name(),
                study=self._study,
                nodes=settings.num_nodes,
                ranks=settings.devices * at_once,
                at_once=at_once,
                note=self._note,
            )
        return self._fleet

    def _note(self, text: str) -> None:
        # Whoever listens changes from round to round.
        self._say(text)

    def _job_name(self) -> str:
        """Return the name of the study's jobs: that of the folder, and a part that no other study has."""
        path = self._queue.name_path
        try:
            name = path.read_text(encoding="utf-8").strip()
        except OSError:
            name = ""
        if not name.startswith("lrscale-") or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in self._study.name)
            name = f"lrscale-{plain[:30]}-{secrets.token_hex(4)}"
            write_atomically(path, name)
        return name

    def _put(self, tickets: Sequence[Ticket]) -> None:
        self._queue.put(enumerate(tickets, start=self._place))
        self._place += len(tickets)

    def _withdraw_strangers(self, wanted: Mapping[str, TrialRequest]) -> None:
        """Take back what an earlier run, or whoever sent the folder, has asked for and this run does not."""
        for key in self._queue.waiting():
            if key not in wanted:
                self._queue.withdraw(key)

    def _collect(self, claim: Claim, request: TrialRequest) -> TrialRecord | None:
        outcome = self._queue.outcome(claim)
        if outcome is None:
            return None
        self._take_over(claim, outcome, request.folder)
        return TrialRecord.from_dict(outcome["record"])

    def _take_over(self, claim: Claim, outcome: Mapping[str, Any], folder: Path) -> None:
        """Bring the files of an attempt to where they are looked for, and raise the error that it met."""
        bring(self._queue.run_folder(claim), folder)
        if "error" not in outcome:
            return
        # Asked for again it must be tried again: the user will have changed what was wrong.
        self._queue.forget(claim.key)
        plain = dict(outcome["error"])
        for name in ("message", "hint"):
            if plain[name] is not None:
                plain[name] = str(plain[name]).replace(str(self._queue.run_folder(claim)), str(folder.resolve()))
        raise error_from_dict(plain)

    def _given_up(self, left: Mapping[str, TrialRequest]) -> list[tuple[TrialRecord, str]]:
        """Return the records of trials that no further attempt can help; each is taken out of the queue."""
        found = []
        interrupted = self._queue.interrupted() & left.keys()
        for key in interrupted & self._queue.waiting().keys() if interrupted else ():
            request = left[key]
            record = verdict(request.spec.trial_id, request.layout, self._queue.past(key))
            if record is not None and self._queue.withdraw(key):
                found.append((record, key))
        return found

    def _ask_again(self, left: dict[str, TrialRequest], begun: set[str]) -> None:
        """Withdraw trials that wait and may not start any more, because the budget has gone meanwhile."""
        for key in self._queue.waiting():
            request = left.get(key)
            may_start: Callable[[], bool] | None = None if request is None else request.may_start
            if may_start is not None and not may_start() and self._queue.withdraw(key):
                del left[key]
                begun.discard(key)

    def _tell(self, claims: Mapping[str, Claim], left: Mapping[str, TrialRequest], progress: AbstractProgress) -> None:
        for key, claim in claims.items():
            row = last_row(self._queue.run_folder(claim))
            if row is not None:
                spec = left[key].spec
                progress.trial_progress(spec.trial_id, place_of(row, spec), spec.horizon, row.get("train_loss"))


def bring(source: Path, target: Path) -> None:
    """Give the files of an attempt to the trial; the attempt keeps them until the trial's record is published."""
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        for name in names:
            file, goal = Path(folder, name), there / name
            # A link could lead anywhere; what is half written nobody reads.
            if file.is_symlink() or not file.is_file() or name.endswith(".partial"):
                continue
            try:
                there.mkdir(parents=True, exist_ok=True)
                goal.unlink(missing_ok=True)
                try:
                    os.link(file, goal)
                except OSError:
                    shutil.copyfile(file, goal)
            except OSError as error:
                raise StudyError(
                    f"cannot write {goal}: {error.strerror}", hint="free space, then run it again"
                ) from error
