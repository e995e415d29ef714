from __future__ import annotations

import os
from pathlib import Path

import pytest

from .kill_and_resume import check_endurance


@pytest.mark.slow
def test_six_kills_lose_and_change_nothing(tmp_path: Path) -> None:
    victims = ("rank", "driver", "server", "rank", "group", "reaper")
    tally = check_endurance(tmp_path, kills=6, seed=1, victims=victims)
    assert tally.kills == {"rank": 2, "driver": 1, "server": 1, "group": 1, "reaper": 1}


@pytest.mark.slow
def test_kills_on_two_nodes_lose_and_change_nothing(tmp_path: Path) -> None:
    victims = ("follower", "rank", "driver", "server", "group")
    tally = check_endurance(tmp_path, kills=5, seed=2, victims=victims, nodes=2)
    assert tally.kills == dict.fromkeys(victims, 1)


@pytest.mark.endurance
def test_hundreds_of_kills_lose_and_change_nothing(tmp_path: Path) -> None:
    kills = int(os.environ.get("LRSCALE_KILLS", "200"))
    assert check_endurance(tmp_path, kills=kills).kills.total() == kills
