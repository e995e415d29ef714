"""The ranks of one job, from their start to their end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.launch.job import ENTRY
from lrscale.launch.outcome import completed, see_anew
from lrscale.launch.processes.base import AbstractServer

GRACE = 5.0
"""Seconds that the other ranks get to end by themselves once one has failed; a collective would block them for ever."""
STACKS = 0.5
"""Seconds that ranks out of time get to write where they are, before they are killed."""
PATIENCE = 60.0
"""Seconds after which a killed rank that does not end, because it hangs in the kernel, is given up."""
KILLED = -9
"""Code of a rank that SIGKILL has ended."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The ranks of a group that one node has."""

    server: AbstractServer
    """Starts them."""
    ranks: range
    environment: Mapping[str, str]
    """Variables that they share; RANK and LOCAL_RANK are added for each."""
    node: str = "this machine"
    """For messages."""


@final
class RankGroup:
    """A DDP world of fresh processes, on one node or several.

    Parameters
    ----------
    shares : sequence of Share
        Which ranks are where, by rank.
    key : str
        Name of the group, unique for each server.
    folder : Path
        Where the ranks leave outcomes and logs.
    limit : float or None
        Seconds after which the group is ended.
    """

    def __init__(self, shares: Sequence[Share], key: str, folder: Path, limit: float | None) -> None:
        self._shares = tuple(shares)
        self._limit = limit
        self._failed_at: float | None = None
        self._kill_at: float | None = None
        self._killed_at: float | None = None
        self._ended_at: float | None = None
        self.key = key
        self.folder = folder
        self.world_size = sum(len(share.ranks) for share in shares)
        self.started = time.monotonic()
        self.timed_out = False
        self.lost_node: str | None = None
        """The node that was lost with ranks of the group on it."""
        self.codes: dict[int, int] = {}
        """Exit code by rank, in the order in which they ended."""

    @property
    def servers(self) -> tuple[AbstractServer, ...]:
        """Those that have ranks of the group."""
        return tuple(share.server for share in self._shares)

    def start(self, job: Path) -> None:
        """Fork the ranks; a server that is gone is told by the server's events."""
        folder = self.folder.resolve()
        for share in self._shares:
            for rank in share.ranks:
                share.server.send(
                    {
                        "op": "start",
                        "key": self.key,
                        "rank": rank,
                        "job": str(job),
                        "log": str(folder / f"rank-{rank}.log"),
                        "entry": ENTRY,
                        "env": {
                            **share.environment,
                            "RANK": str(rank),
                            "LOCAL_RANK": str(rank - share.ranks.start),
                        },
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

    def take(self, server: AbstractServer, event: Mapping[str, Any]) -> None:
        """Take what a server said, if it is about this group."""
        if event["event"] == "lost":
            self._lose(server)
        elif event["event"] == "exited" and event["key"] == self.key:
            rank, code = event["rank"], event["code"]
            self._note_end(rank, code)
            if server.far:
                see_anew(self.folder)
            # A rank other than 0 may be done early while 0 still saves or plots; when 0 is done, all is.
            if self._failed_at is None and (rank == 0 or code != 0 or not completed(self.folder, rank)):
                self._failed_at = time.monotonic()

    def watch(self) -> None:
        """End the group when its time is up, or when one rank has failed and the others do not end by themselves."""
        now = time.monotonic()
        if self._killed_at is not None:
            if now - self._killed_at > PATIENCE:
                self._give_up(self._shares)
            return
        if self._kill_at is None and self._failed_at is not None:
            self._kill_at = self._failed_at + GRACE
        elif self._kill_at is None and self._limit is not None and now - self.started > self._limit:
            self.timed_out = True
            self._send({"op": "stacks", "key": self.key})
            self._kill_at = now + STACKS
        if self._kill_at is not None and now >= self._kill_at:
            self.kill()

    def kill(self) -> None:
        """Kill what still runs; the ends are told by the servers' events."""
        self._send({"op": "kill", "key": self.key})
        self._killed_at = time.monotonic()

    def _send(self, message: Mapping[str, Any]) -> None:
        for server in self.servers:
            server.send(message)

    def _lose(self, server: AbstractServer) -> None:
        lost = [share for share in self._shares if share.server is server]
        if self.ended or not lost:
            return
        if server.gone and self.lost_node is None:
            self.lost_node = lost[0].node
        self._give_up(lost)
        if self._killed_at is None:
            # What is left of the world cannot finish, and need not say so.
            self.kill()

    def _give_up(self, shares: Sequence[Share]) -> None:
        for share in shares:
            for rank in share.ranks:
                if rank not in self.codes:
                    self._note_end(rank, KILLED)

    def _note_end(self, rank: int, code: int) -> None:
        self.codes[rank] = code
        if self.ended:
            self._ended_at = time.monotonic()
