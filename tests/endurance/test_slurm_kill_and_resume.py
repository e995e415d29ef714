from __future__ import annotations

import os
from pathlib import Path

import pytest

from .slurm_kill_and_resume import VICTIMS, check_slurm_endurance, cluster, loopback_cluster

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(loopback_cluster.missing()), reason="SLURM's daemons are not installed"),
]


@pytest.mark.slow
def test_one_kill_of_each_kind_loses_and_changes_nothing_in_slurm_jobs(tmp_path: Path) -> None:
    with cluster():
        tally = check_slurm_endurance(tmp_path, kills=len(VICTIMS), seed=1)
    assert tally.kills == dict.fromkeys(VICTIMS, 1)


@pytest.mark.endurance
def test_a_hundred_kills_lose_and_change_nothing_in_slurm_jobs(tmp_path: Path) -> None:
    kills = int(os.environ.get("LRSCALE_KILLS", "100"))
    with cluster():
        assert check_slurm_endurance(tmp_path, kills=kills).kills.total() == kills
