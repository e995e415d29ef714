"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

collect_ignore = [] if importlib.util.find_spec("ray") else ["test_on_a_cluster.py"]

CPUS = 4
"""Said of each node, whatever the machine has: a rank takes one."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes; the driver is on the first."""
    ray = pytest.importorskip("ray", exc_type=ImportError)
    from ray.cluster_utils import Cluster

    from lrscale.launch.ray.cluster import keep_off_the_terminal

    keep_off_the_terminal()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS, "include_dashboard": False})
    made.add_node(num_cpus=CPUS)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
