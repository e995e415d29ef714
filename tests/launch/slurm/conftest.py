"""A real SLURM on the loopback interface, and launchers that submit to it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lrscale.launch import LaunchSettings, TrialRequest
from lrscale.launch.slurm.launcher import SlurmLauncher
from lrscale.recipe import SlurmSettings

from ..conftest import TASKS, tiny_request

HERE = Path(__file__).resolve().parent


def _loopback() -> Any:
    sys.path.insert(0, str(HERE))
    try:
        import loopback_cluster
    finally:
        sys.path.remove(str(HERE))
    absent = loopback_cluster.missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    return loopback_cluster


@contextmanager
def _running(nodes: int, **options: bool) -> Iterator[dict[str, str]]:
    loopback = _loopback()
    # A short path: that of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lrscale-slurm-") as folder:
        variables = loopback.up(Path(folder), nodes, **options)
        package = str(HERE.parent.parent.parent)
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield variables
        finally:
            subprocess.run(["scancel", "--user", str(os.getuid())], check=False, timeout=60)
            loopback.down(Path(folder))
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """Three nodes on this machine, up for the session; skipped where SLURM's daemons are not installed."""
    with _running(3) as variables:
        yield variables


@pytest.fixture
def memory_limits(cluster: dict[str, str]) -> Iterator[None]:
    """Another cluster, which limits the memory of its jobs; skipped where that cannot be done."""
    del cluster
    if not _loopback().can_limit_memory():
        pytest.skip("memory cannot be limited here: that takes root and version 1 of control groups")
    with _running(1, limit_memory=True):
        yield


@pytest.fixture
def study(cluster: dict[str, str], tmp_path: Path) -> Path:
    del cluster
    folder = tmp_path / "study"
    folder.mkdir()
    return folder


@pytest.fixture
def launcher(study: Path) -> Callable[..., SlurmLauncher]:
    def make(
        *,
        timeout: float | None = None,
        devices: int = 2,
        num_nodes: int = 1,
        trials_at_once: int = 1,
        **slurm: Any,
    ) -> SlurmLauncher:
        wishes = {"time": "10m", "max_jobs": 1, "poll": 1, "idle": 30, **slurm}
        return SlurmLauncher(
            LaunchSettings(
                root=TASKS,
                preload=("tiny",),
                accelerator="cpu",
                devices=devices,
                num_nodes=num_nodes,
                trials_at_once=trials_at_once,
                timeout=timeout,
                study=study,
                slurm=SlurmSettings.model_validate(wishes),
            )
        )

    return make


@pytest.fixture
def request_for(study: Path) -> Callable[..., TrialRequest]:
    """Make a request for a trial of `tiny`, with a folder of its own as a study would make it."""

    def make(*, home: str = "", **changes: Any) -> TrialRequest:
        return tiny_request(study.parent / f"trials{home}", **changes)

    return make


def live_jobs() -> list[str]:
    """Return the numbers of jobs that wait or run."""
    listed = subprocess.run(
        ["squeue", "--noheader", "--format=%i", "--partition=debug,closed"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return listed.stdout.split()
