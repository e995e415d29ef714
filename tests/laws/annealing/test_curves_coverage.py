"""Coverage of predicted final losses on small designs; benchmarks/coverage_curves.py prints the whole table."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from scipy.stats import binom

ROWS = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "coverage_curves.py"))["schedule_rows"]
STUDIES = 15


@pytest.mark.parametrize(("true_law", "misfit"), [("tissue", (0.06, 0.06)), ("multi_power", (0.0, 0.0))])
def test_the_interval_of_a_final_loss_covers_what_is_observed(true_law, misfit):
    table = ROWS(true_law, "tissue", misfit, STUDIES, 7)
    covered, total = sum(row[1] for row in table), sum(row[2] for row in table)
    assert total == 3 * STUDIES
    # The three schedules of a study share its fit: count them as half of what they are. An interval with 95 % coverage
    # falls below this once in a thousand runs.
    assert covered / total >= binom.ppf(1e-3, total // 2, 0.95) / (total // 2)
    # Useful: narrower than what a cooldown gains.
    assert max(row[3] for row in table) < 0.08


@pytest.mark.slow
def test_the_chosen_law_covers_both_truths():
    for true_law in ("tissue", "multi_power"):
        for _, covered, total, _ in ROWS(true_law, None, (0.0, 0.12), 60, 8):
            assert covered >= binom.ppf(1e-3, total, 0.95)
