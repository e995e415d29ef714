"""The connection of a driver to a Ray cluster, and the nodes that it has."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.errors import LrscaleError

EXTRA = 'pip install "lrscale[ray]"'
"""What brings Ray."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the cluster that is alive."""

    node_id: str
    name: str
    cpus: float
    gpus: float


def require_ray(what: str) -> Any:
    """Return the module ``ray``.

    Parameters
    ----------
    what : str
        Subject of the message, such as ``"the launcher ray"``.

    Raises
    ------
    LrscaleError
        When it is not installed.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray._raylet") is None:
        raise LrscaleError(f"{what} needs the package ray, which is not installed", hint=EXTRA)
    # Ray counts uses on a server of its makers, and warns of a variable that it will set otherwise one day.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


@final
class Cluster:
    """A connection, made where there is none yet.

    Parameters
    ----------
    address : str or None
        Of the cluster's head, as ``ray.init`` takes it, ``"auto"`` for one that runs on this machine; None for the one
        in ``RAY_ADDRESS``, else a new one of this machine alone. One that happens to run here is not taken unasked: on
        a machine that many share it may be anybody's.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._own = False

    def connect(self) -> None:
        """Connect.

        Raises
        ------
        LrscaleError
            When Ray is not installed or no cluster answers.
        """
        ray = require_ray("the launcher ray")
        if ray.is_initialized():
            return
        keep_off_the_terminal()
        before = signal.getsignal(signal.SIGTERM)
        told = self._address or os.environ.get("RAY_ADDRESS")
        try:
            ray.init(address=told or "local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            said = " ".join(str(error).split())[:200]
            where = f"the Ray cluster at {told}" if told else "a Ray cluster"
            raise LrscaleError(
                f"{where} cannot be reached: {said}",
                hint="start one with `ray start --head` and name it with --address, or leave --address out to have one "
                "of this machine",
            ) from error
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler below Python's would end this process at once, with a C++ stack, and nothing tidied up.
            signal.signal(signal.SIGTERM, before)
        self._own = True

    def close(self) -> None:
        """Disconnect, where `connect` has connected; a cluster that it has started ends."""
        if self._own:
            import ray

            ray.shutdown()
        self._own = False

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        import ray

        return [
            Node(
                node_id=one["NodeID"],
                name=one.get("NodeManagerHostname") or one["NodeManagerAddress"],
                cpus=one["Resources"].get("CPU", 0.0),
                gpus=one["Resources"].get("GPU", 0.0),
            )
            for one in ray.nodes()
            if one["Alive"]
        ]

    def free(self, nodes: Sequence[Node]) -> list[Node]:
        """Return nodes with what is free of them now instead of all that they have."""
        from ray._private.state import available_resources_per_node

        left = available_resources_per_node()
        return [
            Node(
                node_id=node.node_id,
                name=node.name,
                cpus=left.get(node.node_id, {}).get("CPU", 0.0),
                gpus=left.get(node.node_id, {}).get("GPU", 0.0),
            )
            for node in nodes
        ]


def keep_off_the_terminal() -> None:
    """Keep Ray from printing what its daemons say about lost processes to this process's standard output.

    Results go there. The record of a trial and Ray's own log files tell the same. There is no setting for it (ray 2.60,
    ``listen_error_messages``).
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *arguments, **options: None
