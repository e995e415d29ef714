from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The folders of tests are no packages: what trials and tests share is found by its own name.
for folder in ("training", "strangers"):
    path = str(Path(__file__).resolve().parent.parent / folder)
    if path not in sys.path:
        sys.path.insert(0, path)


@pytest.fixture(scope="session")
def trials() -> Iterator[object]:
    """Real trials through one launcher; the server starts at the first trial."""
    import lrscale_test_trials

    yield lrscale_test_trials.shared()


def pytest_sessionfinish() -> None:
    module = sys.modules.get("lrscale_test_trials")
    if module is not None:
        module.close_shared()
