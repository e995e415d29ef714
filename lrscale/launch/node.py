"""One machine that takes part: what starts ranks there, and its devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from lrscale.launch.devices import DevicePool
from lrscale.launch.processes.base import AbstractServer
from lrscale.units import Layout


@final
@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A machine, or the part of it that this study was given."""

    name: str
    """For messages."""
    server: AbstractServer
    pool: DevicePool
    cores: int
    """CPU cores that its ranks may use."""
    scratch: Path
    """A folder of the node's own disk, in which ranks of one node meet."""
    address: str = "127.0.0.1"
    """By which the other nodes reach it."""
    interface: str | None = "lo"
    """Network interface of that address; None leaves the choice to gloo."""


def room(nodes: Sequence[Node], layout: Layout) -> int:
    """Return how many trials of a layout the nodes hold side by side.

    Each takes its devices on `num_nodes` different nodes, so that the most are t with sum(min(t, held_i)) at least
    num_nodes x t, where held_i trials have room on node i.
    """
    held = [node.pool.holds(layout.devices) for node in nodes]
    most = sum(held) // layout.num_nodes
    while most > 0 and sum(min(most, one) for one in held) < layout.num_nodes * most:
        most = sum(min(most, one) for one in held) // layout.num_nodes
    return most


def lend(nodes: Sequence[Node], layout: Layout) -> list[tuple[Node, tuple[str, ...]]] | None:
    """Take devices for one trial, from the nodes that have most of them free; None when too few have."""
    free = sorted(
        (node for node in nodes if node.pool.free_for(layout.devices) > 0),
        key=lambda node: node.pool.free_for(layout.devices),
        reverse=True,
    )
    if len(free) < layout.num_nodes:
        return None
    chosen = free[: layout.num_nodes]
    # In the order of the nodes, so that rank 0 is on the leader's where that takes part.
    lent = []
    for node in nodes:
        if node in chosen:
            names = node.pool.take(layout.devices)
            assert names is not None
            lent.append((node, names))
    return lent
