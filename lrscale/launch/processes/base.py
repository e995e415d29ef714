"""What starts the ranks of one node: the process on this machine, or one that a follower keeps on another."""

from __future__ import annotations

import selectors
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class AbstractServer(ABC):
    """Starts ranks and tells how they end; the messages are those of `lrscale.launch.processes.server`."""

    @abstractmethod
    def start(self) -> list[str]:
        """Start it, wait until it is ready, and return sentences about what was not as asked.

        Raises
        ------
        StudyError
            When it does not come up.
        """

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it was started and not stopped; it may have died meanwhile, as `events` will tell."""

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether its node is lost, so that it cannot be started again."""

    @property
    @abstractmethod
    def far(self) -> bool:
        """Whether its ranks write on another machine."""

    @abstractmethod
    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message; False when the server is gone."""

    @abstractmethod
    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield what the server said within `timeout` seconds.

        ``{"event": "lost"}`` comes last when the server has died: then no process of it is left, or its node is lost
        with them.
        """

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there are events; only of one that runs."""

    @abstractmethod
    def free_port(self) -> int:
        """Return a TCP port of its node that was free a moment ago.

        Raises
        ------
        ConnectionError
            When the node is lost.
        """

    @abstractmethod
    def stop(self) -> None:
        """End it and every process that it has started."""


def hear(servers: Sequence[AbstractServer], timeout: float) -> Iterator[tuple[AbstractServer, dict[str, Any]]]:
    """Yield what any of several servers says within `timeout` seconds, with the one that says it."""
    running = [server for server in servers if server.running]
    # One that does not run has something to say at once: that it is lost.
    silent = [server for server in servers if not server.running]
    if not servers:
        time.sleep(timeout)
        return
    ready = silent
    if running:
        with selectors.DefaultSelector() as selector:
            for server in running:
                selector.register(server.fileno(), selectors.EVENT_READ, server)
            ready = [*silent, *(key.data for key, _ in selector.select(0 if silent else timeout))]
    for server in ready:
        for event in server.events(0):
            yield server, event
