"""What a trial takes of a cluster, and whether that is there."""

from __future__ import annotations

import pytest

from lrscale.launch.ray.cluster import Node
from lrscale.launch.ray.room import Claim, rank_cpus
from lrscale.units import Layout


def nodes(*sizes: tuple[float, float]) -> list[Node]:
    return [Node(node_id=str(i), name=str(i), cpus=cpus, gpus=gpus) for i, (cpus, gpus) in enumerate(sizes)]


def claim(devices: int = 1, num_nodes: int = 1, cpus: int = 1, gpu: bool = False) -> Claim:
    layout = Layout(per_device_batch_size=1, devices=devices, num_nodes=num_nodes)
    return Claim.of(layout, gpu=gpu, cpus=cpus)


@pytest.mark.parametrize(
    ("wanted", "there", "count"),
    [
        (claim(2), nodes((4, 0), (4, 0)), 4),
        (claim(3), nodes((4, 0), (4, 0)), 2),
        # One node means one node: two halves are no whole.
        (claim(6), nodes((4, 0), (4, 0)), 0),
        (claim(2, gpu=True), nodes((64, 8), (64, 8)), 8),
        (claim(2, gpu=True), nodes((64, 1), (64, 1)), 0),
        # GPUs without CPUs for their processes are of no use.
        (claim(4, cpus=4, gpu=True), nodes((8, 8)), 0),
        # Three trials of two nodes each: 3 + 2 + 1 ranks of three nodes.
        (claim(1, num_nodes=2), nodes((3, 0), (2, 0), (1, 0)), 3),
        (claim(1, num_nodes=2), nodes((9, 0)), 0),
        (claim(1, num_nodes=2), nodes((9, 0), (1, 0)), 1),
        (claim(4, num_nodes=2, gpu=True), nodes((8, 4), (8, 4)), 1),
        (claim(1), [], 0),
    ],
)
def test_the_room_of_a_cluster_is_counted_by_how_ranks_must_lie(wanted: Claim, there: list[Node], count: int) -> None:
    assert wanted.count(there) == count
    assert wanted.fits(there) is (count > 0)


@pytest.mark.parametrize(
    ("wanted", "placement", "words"),
    [
        (claim(), "STRICT_PACK", "1 CPU on one node"),
        (claim(2, cpus=4), "STRICT_PACK", "2 x 4 CPUs on one node"),
        (claim(8, gpu=True), "STRICT_PACK", "8 GPUs on one node"),
        (claim(1, 4, gpu=True), "STRICT_SPREAD", "1 GPU on each of 4 nodes"),
        (claim(8, 4, gpu=True), "PACK", "8 GPUs on each of 4 nodes"),
    ],
)
def test_ranks_of_one_node_stay_on_one(wanted: Claim, placement: str, words: str) -> None:
    assert wanted.placement == placement
    assert str(wanted) == words


@pytest.mark.parametrize(
    ("devices", "num_nodes", "there", "gpu", "at_once", "cpus"),
    [
        (2, 1, nodes((16, 0)), False, 1, 8),
        (2, 1, nodes((16, 0)), False, 4, 2),
        (2, 1, nodes((16, 0), (16, 0)), False, 4, 4),
        (1, 2, nodes((16, 0), (8, 0)), False, 1, 8),
        (2, 1, nodes((1, 0)), False, 1, 1),
        # A head without CPUs runs nothing and decides nothing.
        (8, 1, nodes((0, 0), (96, 8)), True, 1, 12),
        (8, 2, nodes((96, 8), (64, 8)), True, 1, 8),
        (1, 1, nodes((0, 0)), False, 1, 1),
    ],
)
def test_a_rank_gets_a_fair_share_of_the_least_nodes_cpus(
    devices: int, num_nodes: int, there: list[Node], gpu: bool, at_once: int, cpus: int
) -> None:
    layout = Layout(per_device_batch_size=1, devices=devices, num_nodes=num_nodes)
    assert rank_cpus(layout, there, gpu=gpu, at_once=at_once) == cpus
