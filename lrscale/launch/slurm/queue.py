"""The queue: files in the study folder, each with one writer, that change hands by atomic renames.

::

    slurm/waiting/000012.KEY.json           a ticket, written by the driver
    slurm/claimed/000012.KEY@WORKER.json    the same file, renamed by the worker that took it
    slurm/past/KEY@WORKER.json              why a worker did not end a ticket, written before it goes back
    slurm/done/KEY@WORKER.json              how it ended, written by the worker
    slurm/runs/KEY@WORKER/                  files of the attempt, written by the worker and its ranks
    slurm/hearts/WORKER.json                rewritten every few seconds by the worker
    slurm/logs/JOB.log                      written by SLURM

Of two processes that rename one file only one succeeds, so a ticket is never claimed twice, and it is never in two
places. A worker that was taken for dead and is not keeps to its own folder and its own names; what it publishes is as
good as anyone's, since equal tickets have equal results.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.launch.slurm.ticket import Ticket
from lrscale.store.files import read_json, to_json, write_atomically

FOLDER = "slurm"
"""The queue's folder in a study."""
PARTS = ("waiting", "claimed", "past", "done", "runs", "hearts")
"""Folders of the queue that are of no use once a study has all its trials."""
_WAITING = re.compile(r"^(?P<place>\d{6})\.(?P<key>[A-Za-z0-9-]+)\.json$")
_CLAIMED = re.compile(r"^(?P<place>\d{6})\.(?P<key>[A-Za-z0-9-]+)@(?P<worker>[A-Za-z0-9_.-]+)\.json$")
_OWNED = re.compile(r"^(?P<key>[A-Za-z0-9-]+)@(?P<worker>[A-Za-z0-9_.-]+)\.json$")
_WORKER = re.compile(r"^[A-Za-z0-9_.-]+$")


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """A ticket that a worker has taken."""

    place: int
    """Its place in the order of asking."""
    key: str
    worker: str

    @property
    def name(self) -> str:
        """The name of the attempt, unique in the queue."""
        return f"{self.key}@{self.worker}"


@final
class JobQueue:
    """The queue of one study.

    Parameters
    ----------
    study : Path
        The study folder.
    """

    def __init__(self, study: Path) -> None:
        self.folder = study / FOLDER
        self._closed = self.folder / "closed"

    def open(self) -> None:
        """Make the folders, and take back that the queue was closed; for the driver.

        Others of the group may read them and not write: whoever writes a ticket has it run.
        """
        try:
            for folder in (self.folder, *(self.folder / part for part in (*PARTS, "logs"))):
                folder.mkdir(exist_ok=True)
                folder.chmod(folder.stat().st_mode & 0o755)
            self._closed.unlink(missing_ok=True)
        except OSError as error:
            raise StudyError(
                f"the queue {self.folder} cannot be written: {error.strerror}", hint="choose another --study"
            ) from error

    def close(self) -> None:
        """Tell the workers that no more will come."""
        write_atomically(self._closed, "")

    @property
    def closed(self) -> bool:
        """Whether no more will come."""
        return self._closed.exists() or not self.folder.exists()

    def clear(self) -> None:
        """Remove everything but the logs; no worker may run any more."""
        for part in PARTS:
            shutil.rmtree(self.folder / part, ignore_errors=True)
        self.name_path.unlink(missing_ok=True)
        self._closed.unlink(missing_ok=True)

    def put(self, tickets: Iterable[tuple[int, Ticket]]) -> None:
        """Ask for tickets, each at its place; one that is waiting, claimed or done under its key is left as it is.

        Only the driver asks, so that none comes in between. A waiting one that cannot be read is written anew.
        """
        waiting = self.waiting()
        # Workers go on meanwhile: what is given back between the first look and the second is seen by the last.
        known = waiting.keys() | self.claimed().keys() | self.done().keys() | self.waiting().keys()
        for place, ticket in tickets:
            key = ticket.key
            torn = key in waiting and self.ticket(key, waiting[key]) is None and self.withdraw(key)
            if torn or key not in known:
                write_atomically(self._waiting_path(key, place), to_json(ticket.to_dict()))

    def waiting(self) -> dict[str, int]:
        """Return the keys that wait, with their places, in the order of asking."""
        return {found["key"]: int(found["place"]) for found in self._names("waiting", _WAITING)}

    def claimed(self) -> dict[str, list[Claim]]:
        """Return the claims, by key; a key has several only where a worker was taken for dead."""
        claims: dict[str, list[Claim]] = {}
        for found in self._names("claimed", _CLAIMED):
            claims.setdefault(found["key"], []).append(Claim(int(found["place"]), found["key"], found["worker"]))
        return claims

    def done(self) -> dict[str, Claim]:
        """Return an attempt that ended, by key."""
        return {found["key"]: Claim(0, found["key"], found["worker"]) for found in self._names("done", _OWNED)}

    def ticket(self, key: str, place: int) -> Ticket | None:
        """Return a waiting ticket, or None when it is gone or cannot be read."""
        try:
            return Ticket.from_dict(read_json(self._waiting_path(key, place)), key)
        except StudyError:
            return None

    def claim(self, key: str, place: int, worker: str) -> Claim | None:
        """Take a waiting ticket; None when another was faster."""
        claim = Claim(place, key, worker)
        target = self._claimed_path(claim)
        try:
            os.rename(self._waiting_path(key, place), target)
        except FileNotFoundError:
            # Over NFS the answer to a rename that succeeded can be lost and the repeated one fail.
            if not target.exists():
                return None
        shutil.rmtree(self.run_folder(claim), ignore_errors=True)
        self.run_folder(claim).mkdir(parents=True)
        return claim

    def claimed_ticket(self, claim: Claim) -> Ticket:
        """Return the ticket of a claim.

        Raises
        ------
        StudyError
            When it cannot be read, or is not what its key says.
        """
        return Ticket.from_dict(read_json(self._claimed_path(claim)), claim.key)

    def holds(self, claim: Claim) -> bool:
        """Whether a claim still stands; it does not where its worker was taken for dead."""
        return self._claimed_path(claim).exists()

    def finish(self, claim: Claim, outcome: Mapping[str, Any]) -> None:
        """Publish how a claimed ticket ended."""
        write_atomically(self.folder / "done" / f"{claim.name}.json", to_json(outcome))
        self._claimed_path(claim).unlink(missing_ok=True)

    def give_back(self, claim: Claim, why: Mapping[str, Any]) -> bool:
        """Let a claimed ticket wait again, for its worker or for a worker that died; False when the claim is gone.

        Parameters
        ----------
        claim : Claim
        why : mapping
            Kept in the ticket's past; see `past`.
        """
        write_atomically(self.folder / "past" / f"{claim.name}.json", to_json(why))
        try:
            os.rename(self._claimed_path(claim), self._waiting_path(claim.key, claim.place))
        except FileNotFoundError:
            return False
        return True

    def past(self, key: str) -> list[dict[str, Any]]:
        """Return why earlier attempts at a ticket did not end, the oldest first."""
        folder = self.folder / "past"
        files = [folder / found.string for found in self._names("past", _OWNED) if found["key"] == key]
        told = []
        for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            with contextlib.suppress(StudyError):
                told.append(read_json(path))
        return told

    def interrupted(self) -> set[str]:
        """Return the keys of tickets with a past."""
        return {found["key"] for found in self._names("past", _OWNED)}

    def outcome(self, claim: Claim) -> dict[str, Any] | None:
        """Return how an attempt ended, or None where that cannot be read."""
        try:
            outcome = read_json(self.folder / "done" / f"{claim.name}.json")
        except StudyError:
            return None
        return outcome if isinstance(outcome, dict) else None

    def withdraw(self, key: str) -> bool:
        """Take back a ticket that waits; False when none does, because a worker was faster."""
        place = self.waiting().get(key)
        if place is None:
            return False
        try:
            self._waiting_path(key, place).unlink()
        except FileNotFoundError:
            return False
        return True

    def forget(self, key: str, ended: Claim | None = None) -> None:
        """Remove what is left of a ticket that has ended; a worker that is still at it is left alone.

        Parameters
        ----------
        key : str
        ended : Claim or None, optional
            The attempt that ended it, where that is known: a ticket without a past has had no other.
        """
        if ended is not None and key not in self.interrupted():
            (self.folder / "done" / f"{ended.name}.json").unlink(missing_ok=True)
            shutil.rmtree(self.run_folder(ended), ignore_errors=True)
            return
        self.withdraw(key)
        busy = {claim.worker for claim in self.claimed().get(key, ())}
        for part in ("done", "past"):
            for found in self._names(part, _OWNED):
                if found["key"] == key:
                    (self.folder / part / found.string).unlink(missing_ok=True)
        for folder in (self.folder / "runs").glob(f"{key}@*"):
            if folder.name.partition("@")[2] not in busy:
                shutil.rmtree(folder, ignore_errors=True)

    def run_folder(self, claim: Claim) -> Path:
        """Folder of the files of an attempt."""
        return self.folder / "runs" / claim.name

    def heart_path(self, worker: str) -> Path:
        """File by which a worker shows that it lives."""
        if not _WORKER.match(worker):
            raise StudyError(f"a worker cannot be called {worker!r}")
        return self.folder / "hearts" / f"{worker}.json"

    def hearts(self) -> dict[str, dict[str, Any]]:
        """Return what each worker last said of itself."""
        found = {}
        for path in sorted((self.folder / "hearts").glob("*.json")):
            with contextlib.suppress(StudyError):
                said = read_json(path)
                if isinstance(said, dict) and _WORKER.match(path.stem):
                    found[path.stem] = said
        return found

    @property
    def driver_path(self) -> Path:
        """File by which the driver shows that it lives."""
        return self.folder / "driver.json"

    @property
    def name_path(self) -> Path:
        """File that holds the name of the study's jobs."""
        return self.folder / "name"

    def log_path(self, job: str) -> Path:
        """Return the file that holds what a job printed."""
        return self.folder / "logs" / f"{job}.log"

    def _names(self, part: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder / part))
        except FileNotFoundError:
            return
        for name in names:
            # Files that are half written have names that no pattern takes.
            if found := pattern.match(name):
                yield found

    def _waiting_path(self, key: str, place: int) -> Path:
        return self.folder / "waiting" / f"{place:06d}.{key}.json"

    def _claimed_path(self, claim: Claim) -> Path:
        return self.folder / "claimed" / f"{claim.place:06d}.{claim.name}.json"
