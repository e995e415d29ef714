"""Two ranks under torchrun: one curve over all of them, one answer, and training that goes on untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from two_ranks import BATCH

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


def test_the_curve_is_the_mean_over_ranks_whose_data_differ(found: list[dict[str, Any]]) -> None:
    first, second = (np.array(own["own"]) for own in found)
    curve = np.array(found[0]["curve"])
    assert found[0]["batch_size"] == 2 * BATCH
    assert np.abs(first - second)[: len(curve)].max() > 0.5
    np.testing.assert_allclose(curve, ((first + second) / 2)[: len(curve)], rtol=1e-6)


def test_all_ranks_get_the_same_answer(found: list[dict[str, Any]]) -> None:
    assert found[0]["curve"] == found[1]["curve"]
    assert found[0]["confirmed"] == found[1]["confirmed"]
    assert [family["batch_size"] for family in found[0]["confirmed"]["families"]] == [32, 64]
    assert all(family["confirmation"]["runs"] for family in found[0]["confirmed"]["families"])


def test_a_call_in_the_middle_of_training_changes_nothing_on_any_rank(found: list[dict[str, Any]]) -> None:
    for own in found:
        assert len(own["points"]) == 2
        # Of 20 rungs; whether the last ones have left for good depends on the weights of the moment.
        assert min(own["points"]) >= 17
        assert own["differences"] == []
        assert own["with"] == own["alone"]
