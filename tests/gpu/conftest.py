"""Trials on the machine's first GPU, and the same on its processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lrscale_test_trials import Trials

# A module of tasks: imported by the processes under test alone.
collect_ignore = ["gpu_modules.py"]


@pytest.fixture(scope="session")
def on_gpu() -> Iterator[Trials]:
    trials = Trials(accelerator="gpu", trials_at_once=1)
    yield trials
    trials.close()


@pytest.fixture(scope="session")
def on_cpu() -> Iterator[Trials]:
    trials = Trials(trials_at_once=1)
    yield trials
    trials.close()
