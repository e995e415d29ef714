from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _trials_module() -> ModuleType:
    # The folders of tests are no packages; the helpers are loaded once, under one name, wherever they are used.
    name = "lrscale_test_trials"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("trials.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_trials_module()


@pytest.fixture(scope="session")
def trials() -> Iterator[object]:
    """Real trials through one launcher; the server starts at the first trial."""
    yield _trials_module().shared()
    _trials_module().close_shared()
