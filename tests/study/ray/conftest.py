"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two nodes of four CPUs, whatever the machine has."""
    ray = pytest.importorskip("ray", exc_type=ImportError)
    from ray.cluster_utils import Cluster

    from lrscale.launch.ray.cluster import keep_off_the_terminal

    keep_off_the_terminal()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    made.add_node(num_cpus=4)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
