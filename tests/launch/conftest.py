"""Servers and launchers over small tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lrscale.launch.processes.forkserver import Forkserver

# Modules of tasks: imported by the processes under test alone.
collect_ignore = ["tasks"]

TASKS = Path(__file__).resolve().parent / "tasks"


@pytest.fixture(scope="session")
def tasks() -> Path:
    return TASKS


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Forkserver]]:
    """Make servers without torch, which are up in a moment."""
    made: list[Forkserver] = []

    def make(*modules: str, folder: Path | None = None) -> Forkserver:
        paths = (str(TASKS), *((str(folder),) if folder is not None else ()))
        server = Forkserver(tmp_path / f"scratch-{len(made)}", modules, paths, core=("json",))
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


def eventually(claim: Callable[[], bool], *, within: float = 20.0) -> bool:
    """Whether a claim comes true in time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.01)
    return claim()


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be taken leave of does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
