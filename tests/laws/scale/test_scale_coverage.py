"""Coverage on few studies; benchmarks/coverage_scale.py prints the whole table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from scipy.stats import binom

_PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "coverage_scale.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("coverage_scale", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("loss_rows", (20, (3, 3), 0.005, 1)),
        ("loss_rows", (6, (4, 5), 0.005, 1)),
        ("lr_rows", (60, 8, 0, 1)),
        ("lr_rows", (40, 12, 3, 1)),
        ("saturating_rows", (5, 1)),
    ],
)
def test_the_intervals_cover_the_truth(benchmark, name, arguments):
    for row, covered, studies, width in getattr(benchmark, name)(*arguments, resamples=200):
        # An interval with 93 % coverage falls below this count once in a thousand runs.
        assert covered >= binom.ppf(1e-3, studies, 0.93), row
        assert 0 < width < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loss_rows", "saturating_rows"])
def test_the_intervals_cover_the_truth_in_many_studies(benchmark, name):
    arguments = (150, (5, 7), 0.005, 2) if name == "loss_rows" else (150, 2)
    for row, covered, studies, _ in getattr(benchmark, name)(*arguments):
        assert covered >= binom.ppf(1e-3, studies, 0.93), row
