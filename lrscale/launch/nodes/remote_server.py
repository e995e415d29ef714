"""The leader's end of a follower: a server on another node, spoken to like the one on this machine."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, final

from typing_extensions import override

from lrscale.errors import StudyError
from lrscale.launch.nodes.channel import Channel
from lrscale.launch.processes.base import AbstractServer
from lrscale.launch.processes.forkserver import START_TIMEOUT, STOP_TIMEOUT

BEAT = 1.0
"""Seconds between the signs of life that both sides give."""
LEADER_PATIENCE = 20.0
"""Seconds of silence after which the leader takes a node for lost. Followers give the leader up sooner, so that their
ranks are gone before the trial is run again elsewhere."""
ANSWER_TIMEOUT = 10.0
"""Seconds for an answer that takes a follower no time."""


@final
class RemoteServer(AbstractServer):
    """A follower that has joined.

    A thread reads what it says and gives signs of life, also while the driver is busy with something else.

    Parameters
    ----------
    channel : Channel
        The connection; closed by `close`.
    name : str
        Name of the node, for messages.
    """

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._begin: Mapping[str, Any] = {}
        self._asked = False
        self._running = False
        self._gone: str | None = None
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._wake, self._wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_end, False)
        self._reader = threading.Thread(target=self._read, name=f"lrscale-{name}", daemon=True)
        self._reader.start()

    def prepare(self, begin: Mapping[str, Any]) -> None:
        """Say what its server needs: ``modules``, ``paths`` and ``core`` of a `Forkserver`, and ``cores`` to use."""
        self._begin = dict(begin)

    def ask_to_start(self) -> None:
        """Have the follower load what ranks need, without waiting for it."""
        if not self._asked:
            self._asked = True
            self._channel.send({"op": "begin", **self._begin})

    @override
    def start(self) -> list[str]:
        self.ask_to_start()
        try:
            answer = self._answer(START_TIMEOUT + ANSWER_TIMEOUT)
        except ConnectionError:
            return []  # It is gone, as `gone` and `events` tell.
        finally:
            self._asked = False
        if answer["event"] == "failed":
            raise StudyError(f"{self._name}: {answer['message']}")
        self._running = True
        return [f"{self._name}: {note}" for note in answer["notes"]]

    @property
    @override
    def running(self) -> bool:
        return self._running

    @property
    @override
    def gone(self) -> bool:
        return self._gone is not None

    @property
    @override
    def far(self) -> bool:
        return True

    @property
    def why_gone(self) -> str:
        """What was seen when the node was lost, as a clause."""
        return self._gone or "it is there"

    @override
    def send(self, message: Mapping[str, Any]) -> bool:
        return self._running and self._channel.send(message)

    @override
    def fileno(self) -> int:
        return self._wake

    @override
    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        if not self._running:
            yield {"event": "lost"}
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 1 << 12)
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._said.get_nowait()
                if event["event"] == "lost":
                    self._running = False
                yield event

    @override
    def free_port(self) -> int:
        self._channel.send({"op": "port"})
        return int(self._answer(ANSWER_TIMEOUT)["port"])

    @override
    def stop(self) -> None:
        if self._running and self._gone is None:
            self._channel.send({"op": "rest"})
            with contextlib.suppress(ConnectionError):
                self._answer(STOP_TIMEOUT + ANSWER_TIMEOUT)
        self._running = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._said.get_nowait()

    def close(self, code: int) -> None:
        """Tell the follower that the run has ended, with the exit code of the leader, and close the connection."""
        self._channel.send({"op": "end", "code": code})
        self._channel.close()
        self._reader.join(timeout=ANSWER_TIMEOUT)
        self._running = False
        if not self._reader.is_alive():
            os.close(self._wake)
            os.close(self._wake_end)

    def _answer(self, timeout: float) -> dict[str, Any]:
        if self._gone is not None:
            raise ConnectionError(self._gone)
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            # An answer that came later would be taken for that to another question.
            self._channel.close()
            raise ConnectionError("it does not answer") from None
        if answer is None:
            raise ConnectionError(self._gone)
        return answer

    def _read(self) -> None:
        heard = beat = time.monotonic()
        why = "its connection closed"
        try:
            while True:
                messages = self._channel.receive(BEAT)
                now = time.monotonic()
                if messages:
                    heard = now
                elif now - heard > LEADER_PATIENCE:
                    # What had arrived would have been read first, so a driver that was stopped for a while finds it.
                    why = f"it gave no sign of life for {now - heard:.0f} s"
                    break
                if now - beat >= BEAT:
                    beat = now
                    self._channel.send({"op": "beat"})
                for message in messages:
                    if message["event"] in ("ready", "failed", "port", "rested"):
                        self._answers.put(message)
                    elif message["event"] != "beat":
                        self._say(message)
        except EOFError:
            pass
        self._gone = why
        self._channel.close()
        self._answers.put(None)
        self._say({"event": "lost"})

    def _say(self, event: dict[str, Any]) -> None:
        self._said.put(event)
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_end, b"!")
