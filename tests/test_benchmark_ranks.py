"""The ranks that a benchmark forks end together, whatever happens to one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
BROKEN = """
import os, time
from _training import on_ranks

def train(ranks, folder):
    print("rank", os.environ["RANK"], "is", os.getpid(), flush=True)
    if os.environ["RANK"] == "1":
        raise ValueError("broken")
    time.sleep(600)

on_ranks(2, train)
"""


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_others():
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], cwd=BENCHMARKS, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "ValueError: broken" in done.stderr and "rank 1 ended with 1" in done.stderr
    pids = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
