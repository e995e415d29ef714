"""What the ranks of a trial take of a cluster, and whether it has that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lrscale.launch.ray.cluster import Node
from lrscale.units import Layout


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a trial takes: so many ranks, each of one bundle.

    Examples
    --------
    >>> from lrscale.launch.ray.cluster import Node
    >>> claim = Claim.of(Layout(per_device_batch_size=8, devices=2), gpu=True, cpus=1)
    >>> claim.placement, claim.fits([Node(node_id="a", name="a", cpus=4, gpus=1)] * 2)
    ('STRICT_PACK', False)
    >>> claim.count([Node(node_id="a", name="a", cpus=9, gpus=8)])
    4
    """

    nodes: int
    devices: int
    """Ranks on each node."""
    cpus: int
    """CPUs of a rank."""
    gpu: bool
    """Whether a rank has a GPU of its own."""

    @classmethod
    def of(cls, layout: Layout, *, gpu: bool, cpus: int) -> Claim:
        """Return the claim of a layout."""
        return cls(nodes=layout.num_nodes, devices=layout.devices, cpus=cpus, gpu=gpu)

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.nodes * self.devices

    @property
    def placement(self) -> str:
        """Ray's strategy: one node means one node, and several of one device each mean as many.

        Several ranks on each of several nodes are packed, as far as the nodes have room.
        """
        if self.nodes == 1:
            return "STRICT_PACK"
        return "STRICT_SPREAD" if self.devices == 1 else "PACK"

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Whether nodes have room for it."""
        return self.count(nodes) > 0

    def count(self, nodes: Sequence[Node]) -> int:
        """Return how many of such trials nodes have room for at once."""
        ranks = [self._ranks(node) for node in nodes]
        if self.nodes == 1:
            return sum(room // self.devices for room in ranks)
        if self.devices == 1:
            # So many rounds take a rank of as many different nodes each.
            most = sum(ranks) // self.nodes
            return next((n for n in range(most, 0, -1) if sum(min(room, n) for room in ranks) >= n * self.nodes), 0)
        return sum(ranks) // self.world_size

    def __str__(self) -> str:
        one = "GPU" if self.gpu else "CPU" if self.cpus == 1 else f"x {self.cpus} CPU"
        each = f"{self.devices} {one}{'' if self.devices * (1 if self.gpu else self.cpus) == 1 else 's'}"
        return f"{each} on one node" if self.nodes == 1 else f"{each} on each of {self.nodes} nodes"

    def _ranks(self, node: Node) -> int:
        by_cpu = math.floor(node.cpus / self.cpus) if self.cpus else math.inf
        by_gpu = math.floor(node.gpus) if self.gpu else math.inf
        return int(min(by_cpu, by_gpu))


def rank_cpus(layout: Layout, nodes: Sequence[Node], *, gpu: bool, at_once: int) -> int:
    """Return the CPUs of a rank: a fair share of a node's.

    Ranks on GPUs share the CPUs by the GPUs, for their data loaders. Ranks on the CPU share them by what runs at once.
    The node with the least to give decides, so that a trial fits each of them.

    Parameters
    ----------
    layout : Layout
    nodes : sequence of Node
        With all that they have.
    gpu : bool
    at_once : int
        Trials that run side by side.

    Examples
    --------
    >>> from lrscale.launch.ray.cluster import Node
    >>> nodes = [Node(node_id="a", name="a", cpus=32, gpus=8), Node(node_id="b", name="b", cpus=0, gpus=0)]
    >>> rank_cpus(Layout(per_device_batch_size=8, devices=8), nodes, gpu=True, at_once=1)
    4
    >>> rank_cpus(Layout(per_device_batch_size=8, devices=2), nodes, gpu=False, at_once=4)
    4
    """
    able = [node for node in nodes if (node.gpus if gpu else node.cpus) >= 1]
    if not able:
        return 1
    if gpu:
        return max(1, int(min(node.cpus // node.gpus for node in able)))
    # Trials spread over the nodes; those that share one share its CPUs.
    together = math.ceil(at_once * layout.num_nodes / len(able))
    return max(1, int(min(node.cpus for node in able) // (layout.devices * together)))
