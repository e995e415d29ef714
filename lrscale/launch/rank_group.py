"""The ranks of one job, from their start to their end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, final

from lrscale.launch.forkserver import Forkserver
from lrscale.launch.job import ENTRY
from lrscale.launch.outcome import completed

GRACE = 5.0
"""Seconds that the other ranks get to end by themselves once one has failed; a collective would block them for ever."""
STACKS = 0.5
"""Seconds that ranks out of time get to write where they are, before they are killed."""
PATIENCE = 60.0
"""Seconds after which a killed rank that does not end, because it hangs in the kernel, is given up."""
KILLED = -9
"""Code of a rank that SIGKILL has ended."""


@final
class RankGroup:
    """A DDP world of fresh processes on this machine.

    Parameters
    ----------
    server : Forkserver
        Forks the ranks.
    key : str
        Name of the group, unique for the server.
    folder : Path
        Where the ranks leave outcomes and logs.
    world_size : int
        Number of ranks.
    limit : float or None
        Seconds after which the group is ended.
    """

    def __init__(self, server: Forkserver, key: str, folder: Path, world_size: int, limit: float | None) -> None:
        self._server = server
        self._limit = limit
        self._failed_at: float | None = None
        self._kill_at: float | None = None
        self._killed_at: float | None = None
        self._ended_at: float | None = None
        self.key = key
        self.folder = folder
        self.world_size = world_size
        self.started = time.monotonic()
        self.timed_out = False
        self.codes: dict[int, int] = {}
        """Exit code by rank, in the order in which they ended."""

    def start(self, job: Path, environment: dict[str, str]) -> None:
        """Fork the ranks; a server that is gone is told by the server's events."""
        for rank in range(self.world_size):
            self._server.send(
                {
                    "op": "start",
                    "key": self.key,
                    "rank": rank,
                    "job": str(job),
                    "log": str(self.folder.resolve() / f"rank-{rank}.log"),
                    "entry": ENTRY,
                    "env": {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                }
            )

    @property
    def ended(self) -> bool:
        """Whether every rank has ended."""
        return len(self.codes) == self.world_size

    @property
    def seconds(self) -> float:
        """Seconds from the start to the end of the last rank, or to now."""
        return (self._ended_at or time.monotonic()) - self.started

    def take(self, event: dict[str, Any]) -> None:
        """Take what the server said, if it is about this group."""
        if event["event"] == "lost":
            self._give_up()
        elif event["event"] == "exited" and event["key"] == self.key:
            rank, code = event["rank"], event["code"]
            self._note_end(rank, code)
            # A rank other than 0 may be done early while 0 still saves or plots; when 0 is done, all is.
            if self._failed_at is None and (rank == 0 or code != 0 or not completed(self.folder, rank)):
                self._failed_at = time.monotonic()

    def watch(self) -> None:
        """End the group when its time is up, or when one rank has failed and the others do not end by themselves."""
        now = time.monotonic()
        if self._killed_at is not None:
            if now - self._killed_at > PATIENCE:
                self._give_up()
            return
        if self._kill_at is None and self._failed_at is not None:
            self._kill_at = self._failed_at + GRACE
        elif self._kill_at is None and self._limit is not None and now - self.started > self._limit:
            self.timed_out = True
            self._server.send({"op": "stacks", "key": self.key})
            self._kill_at = now + STACKS
        if self._kill_at is not None and now >= self._kill_at:
            self.kill()

    def kill(self) -> None:
        """Kill what still runs; the ends are told by the server's events."""
        self._server.send({"op": "kill", "key": self.key})
        self._killed_at = time.monotonic()

    def _give_up(self) -> None:
        for rank in range(self.world_size):
            if rank not in self.codes:
                self._note_end(rank, KILLED)

    def _note_end(self, rank: int, code: int) -> None:
        self.codes[rank] = code
        if self.ended:
            self._ended_at = time.monotonic()
