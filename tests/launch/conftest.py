"""Servers and launchers over small tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrscale.launch import TrialRequest
from lrscale.launch.processes.forkserver import Forkserver
from lrscale.launch.progress import AbstractProgress
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.units import Layout

# Modules of tasks: imported by the processes under test alone.
collect_ignore = ["tasks"]

TASKS = Path(__file__).resolve().parent / "tasks"


class Watcher(AbstractProgress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.notes: list[str] = []

    def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
        self.began.append(spec.trial_id)

    def note(self, text: str) -> None:
        self.notes.append(text)


def tiny_request(
    trials: Path,
    *,
    devices: int = 2,
    nodes: int = 1,
    lr: float = 0.01,
    module: str = "tiny",
    pinned: bool = False,
    seconds: float | None = None,
    **init: Any,
) -> TrialRequest:
    """Return a request for five steps of `Tiny`, whose folder is made below `trials`; `init` says what goes wrong."""
    layout = Layout(per_device_batch_size=12 // (devices * nodes), devices=devices, num_nodes=nodes)
    spec = TrialSpec(
        task={
            "model": {"class_path": f"{module}.Tiny", "init_args": init},
            "data": {"class_path": f"{module}.Points", "init_args": {}},
            "trainer": {},
            "monitor": "val_loss",
        },
        schedule=ScheduleSpec(name="constant"),
        peak_lr=lr,
        global_batch_size=12,
        horizon=5,
        seed=0,
        layout=layout if pinned else None,
    )
    folder = trials / spec.trial_id
    folder.mkdir(parents=True, exist_ok=True)
    return TrialRequest(spec=spec, layout=layout, folder=folder, seconds=seconds)


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
