"""The side of those that do not plan: one process a node starts ranks for the leader, the others wait."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from lrscale.errors import LrscaleError
from lrscale.launch.devices import free_port, visible_gpus
from lrscale.launch.nodes.allocation import Allocation
from lrscale.launch.nodes.channel import Channel
from lrscale.launch.nodes.meeting import INTERRUPTED, JOIN_TIMEOUT, join
from lrscale.launch.nodes.remote_server import BEAT
from lrscale.launch.processes.forkserver import Forkserver
from lrscale.launch.signals import sigterm_like_ctrl_c

FOLLOWER_PATIENCE = 12.0
"""Seconds of silence after which a follower takes its leader for lost; shorter than the leader's own patience."""


def follow(allocation: Allocation, study: Path, *, timeout: float = JOIN_TIMEOUT) -> int:
    """Serve the leader until it ends, and return the exit code that it says.

    Parameters
    ----------
    allocation : Allocation
        Of a process that does not lead.
    study : Path
        Study folder, where the leader is found.
    timeout : float, optional
        Seconds to find it. Default 300.

    Returns
    -------
    int
        The leader's exit code; 130 when it is gone without a word. Then every process that was started here is gone
        too.

    Raises
    ------
    StudyError
        When the leader is not found.
    """
    with sigterm_like_ctrl_c():
        try:
            if allocation.acts:
                return _serve(allocation, study, timeout)
            channel = join(allocation, study, _about_this_process(), timeout)
            try:
                return _wait(channel)
            finally:
                channel.close()
        except KeyboardInterrupt:
            return INTERRUPTED


def _serve(allocation: Allocation, study: Path, timeout: float) -> int:
    scratch = Path(tempfile.mkdtemp(prefix="lrscale-"))
    try:
        hello = {**_about_this_process(), "gpus": visible_gpus(), "scratch": str(scratch)}
        channel = join(allocation, study, hello, timeout)
        follower = Follower(channel, scratch)
        try:
            return follower.serve()
        finally:
            follower.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _about_this_process() -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return {"host": socket.gethostname(), "pid": os.getpid(), "cores": cores}


def _wait(channel: Channel) -> int:
    with contextlib.suppress(EOFError):
        while True:
            for message in channel.receive(3600.0):
                if message["op"] == "end":
                    return int(message["code"])
    return INTERRUPTED


class _LeaderLostError(Exception):
    pass


@final
class Follower:
    """Passes the leader's messages to the server of this node, and the server's to the leader.

    Parameters
    ----------
    channel : Channel
        To the leader.
    scratch : Path
        A folder of this node for the server.
    """

    def __init__(self, channel: Channel, scratch: Path) -> None:
        self._channel = channel
        self._scratch = scratch
        self._server: Forkserver | None = None
        self._heard = self._beat = time.monotonic()
        self._code: int | None = None
        self._kept: list[dict[str, Any]] = []

    def serve(self) -> int:
        """Serve until the leader ends or is gone, and return the exit code."""
        try:
            while self._code is None:
                running = self._server is not None and self._server.running
                watched: list[Any] = [self._channel]
                if running:
                    watched.append(self._server)
                ready = select.select(watched, [], [], 0 if self._kept else BEAT)[0]
                if running and self._server in ready:
                    assert self._server is not None
                    for event in self._server.events(0):
                        self._tell(event)
                self._hear(0)
                messages, self._kept = self._kept, []
                for message in messages:
                    self._answer(message)
        except (_LeaderLostError, EOFError):
            return INTERRUPTED if self._code is None else self._code
        return self._code

    def close(self) -> None:
        """End the server with every rank, and the connection."""
        if self._server is not None:
            self._server.stop()
        self._channel.close()

    def _hear(self, timeout: float) -> None:
        """Take what the leader says, and give a sign of life."""
        messages = self._channel.receive(timeout)
        now = time.monotonic()
        if messages:
            self._heard = now
        elif now - self._heard > FOLLOWER_PATIENCE:
            raise _LeaderLostError
        if now - self._beat >= BEAT:
            self._beat = now
            self._tell({"event": "beat"})
        self._kept += [message for message in messages if message["op"] != "beat"]
        if any(message["op"] == "end" for message in messages):
            self._code = next(int(message["code"]) for message in messages if message["op"] == "end")

    def _answer(self, message: Mapping[str, Any]) -> None:
        if message["op"] == "begin":
            self._begin(message)
        elif message["op"] == "port":
            self._tell({"event": "port", "port": free_port("")})
        elif message["op"] == "rest":
            if self._server is not None:
                self._server.stop()
            self._tell({"event": "rested"})
        elif message["op"] != "end" and self._server is not None:
            # A server that has died says so by its events.
            self._server.send(message)

    def _begin(self, message: Mapping[str, Any]) -> None:
        if hasattr(os, "sched_setaffinity") and message["cores"]:
            # srun may bind each task to cores of its own; the ranks are all children of this one.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, message["cores"])
        self._server = Forkserver(
            self._scratch,
            tuple(message["modules"]),
            tuple(message["paths"]),
            tuple(message["core"]),
            watch=self._watch,
        )
        try:
            notes = self._server.start()
        except LrscaleError as error:
            self._tell({"event": "failed", "message": str(error)})
            return
        self._tell({"event": "ready", "notes": notes})

    def _watch(self) -> None:
        self._hear(0)
        if self._code is not None:
            raise _LeaderLostError

    def _tell(self, event: Mapping[str, Any]) -> None:
        if not self._channel.send(event):
            raise _LeaderLostError
