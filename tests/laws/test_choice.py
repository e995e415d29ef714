"""How laws are compared."""

from __future__ import annotations

import numpy as np
import pytest

from lrscale.laws.choice import Holdout, aicc, largest_out, leave_group_out, near_largest


def test_aicc_is_the_formula_of_burnham_and_anderson():
    residuals = np.array([0.1, -0.2, 0.15, 0.05, -0.1, 0.12])
    k = 3
    expected = 6 * np.log(np.sum(residuals**2) / 6) + 2 * k + 2 * k * (k + 1) / (6 - k - 1)
    assert aicc(residuals, 2) == pytest.approx(expected)


def test_aicc_does_not_exist_for_too_few_points():
    assert aicc(np.ones(5), 3) is None
    assert aicc(np.ones(6), 3) is not None


def test_aicc_of_exact_data_is_a_number():
    assert np.isfinite(aicc(np.zeros(9), 2))


def test_aicc_prefers_the_true_order_of_a_polynomial():
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 12)
    wins = 0
    for _ in range(200):
        y = 1 + 2 * x + 0.2 * rng.standard_normal(12)
        scores = [aicc(y - np.polyval(np.polyfit(x, y, order), x), order + 1) for order in (1, 2, 3)]
        wins += int(np.argmin(scores)) == 0
    # Twice the log-likelihood gained by a term too many is chi-squared; it exceeds the penalty of 4.0 once in 20.
    assert wins > 0.88 * 200


def test_the_largest_are_found_and_ties_with_them():
    assert largest_out(np.array([1.0, 3.0, 3.0 * (1 - 1e-12), 2.0])).tolist() == [False, True, True, False]


def test_cells_near_the_largest_go_together_unless_they_are_too_many():
    assert near_largest(np.array([1, 2, 4, 8, 16, 30.0])).sum() == 2
    assert near_largest(np.array([10, 11, 12, 13.0])).tolist() == [False, False, False, True]


def test_a_group_is_predicted_from_the_others_only():
    y = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    groups = list("aabbcc")

    def error(kept):
        return y[~kept] - y[kept].mean()

    expected = np.sqrt(np.mean([1.5**2, 0.0, 1.5**2]))
    assert leave_group_out(groups, error) == pytest.approx(expected)


def test_groups_that_cannot_be_predicted_are_left_out():
    assert leave_group_out(list("aab"), lambda kept: None) is None
    assert leave_group_out(list("aaa"), lambda kept: np.zeros(1)) is None


def test_a_holdout_writes_itself_as_a_mapping():
    held = Holdout(what="the largest params", n=3, rms_error=0.1, mean_error=-0.05, inside=None)
    assert Holdout(**held.to_dict()) == held
