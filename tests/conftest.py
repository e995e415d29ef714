"""What every test shares: one thread a process, no display, hypothesis without deadlines, skips that say why."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lrscale.launch.devices import visible_gpus

# Set before torch or a trial starts: two ranks with a thread pool each would fight for the cores of a small machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A run in the background of a shell, or under nohup, inherits these as ignored, and so would every process that a test
# starts in order to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Machines that run tests are shared: a deadline would measure them and not the code.
# Where a change is judged the examples are the same each time; elsewhere new ones keep searching.
settings.register_profile(
    "lrscale",
    deadline=None,
    max_examples=50,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lrscale")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = {
        "browser": None if find_browser() else "no Chromium or Chrome on the path",
        "slurm": None if shutil.which("sbatch") else "no sbatch on the path",
        "gpu": None if visible_gpus() else "no GPU is visible",
        "ray": None if importlib.util.find_spec("ray") else "ray is not installed",
    }
    for item in items:
        for marker, reason in absent.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds ``lrscale/``, ``tests/`` and ``recipes/``."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def trials() -> Iterator[object]:
    """Real trials through one launcher; the server starts at the first trial."""
    import lrscale_test_trials

    yield lrscale_test_trials.shared()


def pytest_sessionfinish() -> None:
    module = sys.modules.get("lrscale_test_trials")
    if module is not None:
        module.close_shared()


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The path of Chromium or Chrome, for ``playwright``'s ``executable_path``."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome on the path")
    return path
