"""Where the processes of a worker group meet: a small file in the study folder, and the leader's socket that it names.

The file holds the address, the port and the secret of this run, is readable by its owner only, and is removed when the
run ends. One that a killed leader has left is found out by nobody answering there, and goes with the next run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.launch.nodes.allocation import Allocation
from lrscale.launch.nodes.channel import Channel, RefusedError, listen
from lrscale.launch.nodes.network import LOOPBACK, interface_of, own_address
from lrscale.launch.nodes.remote_server import RemoteServer

JOIN_TIMEOUT = 300.0
"""Seconds that the processes of a group may come after each other: imports from a cold shared file system."""
LOOK_AGAIN = 0.25
"""Seconds between looks at the study folder; a network file system may show a new file some seconds late."""
INTERRUPTED = 130
"""Exit code of those whose leader has gone without a word: interrupted, and resumable."""


@final
@dataclass(frozen=True, slots=True)
class Member:
    """A process that has come."""

    channel: Channel
    hello: Mapping[str, Any]
    """What it said of itself: ``rank``, ``node``, ``acts``, ``host``, ``cores``, ``interface``; one that acts for its
    node also ``gpus`` and ``scratch``."""
    server: RemoteServer | None = None
    """Of one that acts for another node."""

    @property
    def name(self) -> str:
        """Name of its node, for messages."""
        return f"node {self.hello['node']} ({self.hello['host']})"


def meeting_path(allocation: Allocation, study: Path) -> Path:
    """Return the file by which the processes of a group find their leader."""
    return study / f".meeting-{allocation.token}.json"


@final
class Gathering:
    """The leader's side: it lets the others in, and tells them how it ended.

    Parameters
    ----------
    allocation : Allocation
        That of rank 0.
    study : Path
        Study folder, on a file system that all nodes share.

    Raises
    ------
    StudyError
        When the folder cannot be written.
    """

    def __init__(self, allocation: Allocation, study: Path) -> None:
        self.allocation = allocation
        self._path = meeting_path(allocation, study)
        self._secret = secrets.token_bytes(32)
        self._changed = threading.Condition()
        self._members: dict[int, Member] = {}
        self._code: int | None = None
        self._open = True
        self.address = LOOPBACK if allocation.one_node else own_address(allocation.meeting_hint)
        """Of this node, for the others."""
        self._door = listen(self.address)
        self._publish()
        _sweep(study)
        self._doorkeeper = threading.Thread(target=self._let_in, name="lrscale-gathering", daemon=True)
        self._doorkeeper.start()

    def __enter__(self) -> Gathering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.close()

    def wait(self, timeout: float = JOIN_TIMEOUT) -> tuple[dict[int, Member], set[int]]:
        """Wait until all have come, and return those that have, by rank, and the ranks that have not."""
        everyone = set(range(1, self.allocation.world_size))
        with self._changed:
            self._changed.wait_for(lambda: everyone <= self._members.keys(), timeout)
            return dict(self._members), everyone - self._members.keys()

    def end(self, code: int) -> None:
        """Say with which exit code the others end; without it they take the run for interrupted."""
        self._code = code

    def close(self) -> None:
        """Tell the others that it is over, and stop listening."""
        with self._changed:
            if not self._open:
                return
            self._open = False
            members = list(self._members.values())
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._door.close()
        code = INTERRUPTED if self._code is None else self._code
        for member in members:
            if member.server is not None:
                member.server.close(code)
            else:
                member.channel.send({"op": "end", "code": code})
                member.channel.close()

    def _publish(self) -> None:
        text = json.dumps(
            {
                "host": socket.gethostname(),
                "address": self.address,
                "port": self._door.getsockname()[1],
                "secret": self._secret.hex(),
            }
        ).encode()
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            # The secret is written into a file that was readable by nobody else from the first.
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, text)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(partial, self._path)
        except OSError as error:
            self._door.close()
            raise StudyError(
                f"study folder {self._path.parent} cannot be written: {error.strerror}", hint="choose another --study"
            ) from error

    def _let_in(self) -> None:
        while True:
            try:
                link, _ = self._door.accept()
            except OSError:
                return
            # One that connects and says nothing holds up nobody else.
            threading.Thread(target=self._greet, args=(link,), daemon=True).start()

    def _greet(self, link: socket.socket) -> None:
        try:
            channel = Channel.accept(link, self._secret)
            hello = _first(channel)
        except (OSError, EOFError, RefusedError):
            link.close()
            return
        with self._changed:
            rank = int(hello["rank"])
            if not self._open or rank in self._members:
                channel.close()
                return
            member = Member(channel, hello)
            if hello["acts"] and hello["node"] != self.allocation.node:
                member = dataclasses.replace(member, server=RemoteServer(channel, member.name))
            self._members[rank] = member
            self._changed.notify_all()


def join(allocation: Allocation, study: Path, hello: Mapping[str, Any], timeout: float = JOIN_TIMEOUT) -> Channel:
    """Find the leader and say hello.

    Raises
    ------
    StudyError
        When nobody who knows the secret of the study is found in time.
    """
    path = meeting_path(allocation, study)
    deadline = time.monotonic() + timeout
    why = f"there is no {path}: is the study folder on a file system that all nodes share?"
    while True:
        try:
            channel = _connect(path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, RefusedError) as error:
            # Left by an earlier leader, or about to be replaced.
            why = f"the leader that {path} names does not answer: {error}"
        else:
            place = {"rank": allocation.rank, "node": allocation.node, "acts": allocation.acts}
            if channel.send({**place, "interface": interface_of(channel.here), **hello}):
                return channel
        if time.monotonic() > deadline:
            raise StudyError(f"rank {allocation.rank} has not found its leader in {timeout:.0f} s; {why}")
        time.sleep(LOOK_AGAIN)


def _sweep(study: Path) -> None:
    """Remove what leaders of this machine have left that were killed: nobody listens there."""
    for path in study.glob(".meeting-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            told = json.loads(path.read_bytes())
            if told["host"] != socket.gethostname():
                continue
            try:
                socket.create_connection((told["address"], int(told["port"])), timeout=1.0).close()
            except ConnectionRefusedError:
                path.unlink()


def _connect(path: Path) -> Channel:
    with path.open("rb") as stream:
        owner = os.fstat(stream.fileno()).st_uid
        if hasattr(os, "getuid") and owner != os.getuid():
            # Whoever is followed has code run here.
            raise PermissionError(f"it belongs to user {owner}")
        told = json.loads(stream.read())
    return Channel.connect(str(told["address"]), int(told["port"]), bytes.fromhex(told["secret"]))


def _first(channel: Channel) -> dict[str, Any]:
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        messages = channel.receive(1.0)
        if messages:
            return messages[0]
    raise EOFError("it said nothing")
