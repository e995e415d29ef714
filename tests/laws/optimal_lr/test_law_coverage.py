"""Coverage of the law of the best LR on few studies; benchmarks/coverage.py prints the whole table."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[3] / "benchmarks")


@pytest.mark.slow
@pytest.mark.parametrize("law", ["power 0.6", "saturating, knee 256"])
def test_slopes_and_extrapolated_lrs_cover_the_truth(law, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import coverage_laws

    for tally in coverage_laws.studies_of(law, 1, 60):
        # An interval with 92 % coverage falls below this share once in a thousand times.
        assert tally.covered >= 0.78 * len(tally.widths)
        assert len(tally.widths) >= 55
