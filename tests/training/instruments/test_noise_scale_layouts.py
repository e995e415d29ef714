"""Unbiased at every layout: |G|^2 and tr(Sigma) of two models with closed forms, on 1, 2 and 4 ranks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gradient_truth as truth
import pytest

STEPS, BATCH = 120, 32
SLOW = pytest.mark.slow
LAYOUTS = [
    pytest.param(1, 1),
    pytest.param(1, 4),
    pytest.param(2, 1, marks=SLOW),
    pytest.param(2, 4),
    pytest.param(4, 1, marks=SLOW),
    pytest.param(4, 4, marks=SLOW),
]


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def assert_unbiased(one: dict[str, Any], square: float, trace: float) -> None:
    """Compare with the closed form, within three standard errors that are themselves small."""
    assert one["status"] == "ok", one["reason"]
    for name, expected in (("squared_gradient", square), ("noise_trace", trace)):
        error, se = one[name] - expected, one[f"{name}_se"]
        assert abs(error) < 3 * se < 0.6 * expected, (name, error / se)


@pytest.mark.parametrize(("ranks", "accumulate"), LAYOUTS)
def test_a_noisy_quadratic_is_measured_without_bias(ranks: int, accumulate: int) -> None:
    arguments = ("pytorch_lightning", STEPS, BATCH, accumulate, 1)
    if ranks == 1:
        found = [truth.measure_quadratic(*arguments)]
    else:
        found = truth.run_ranks(ranks, truth.measure_quadratic, *arguments)
    assert all(one == found[0] for one in found)
    assert_unbiased(found[0]["total"], truth.QUADRATIC_SQUARE, truth.QUADRATIC_TRACE)
    assert found[0]["total"]["steps"] == STEPS
    assert found[0]["total"]["micro_gradients"] == (ranks * accumulate if ranks * accumulate > 1 else 8)


def test_a_backward_inside_of_the_backward_is_measured_without_bias() -> None:
    # DDP writes its averages when the inner backward ends, before the outer one does.
    found = truth.run_ranks(2, truth.measure_quadratic, "pytorch_lightning", STEPS, BATCH, 1, 1, True)
    assert all(one == found[0] for one in found)
    assert_unbiased(found[0]["total"], truth.QUADRATIC_SQUARE, truth.QUADRATIC_TRACE)
    assert found[0]["total"]["steps"] == STEPS


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.slow
def test_four_ranks_measure_a_regression_without_bias(accumulate: int) -> None:
    found = truth.run_ranks(4, truth.measure, "pytorch_lightning", STEPS, BATCH, accumulate)
    assert all(one == found[0] for one in found)
    result = found[0]["result"]
    assert_unbiased(result["total"], truth.SQUARE, truth.TRACE)
    assert_unbiased(result["groups"]["weights"], truth.WEIGHT_SQUARE, truth.WEIGHT_TRACE)
    assert_unbiased(result["groups"]["biases"], truth.BIAS_SQUARE, truth.BIAS_TRACE)


@pytest.mark.slow
def test_over_many_runs_the_error_is_as_large_as_its_standard_error_says() -> None:
    scores = []
    for seed in range(40):
        one = truth.measure_quadratic("pytorch_lightning", 40, 16, 4, seed)["total"]
        expected = {"squared_gradient": truth.QUADRATIC_SQUARE, "noise_trace": truth.QUADRATIC_TRACE}
        scores.append([(one[name] - value) / one[f"{name}_se"] for name, value in expected.items()])
    for column in zip(*scores, strict=True):
        mean = sum(column) / len(column)
        spread = sum(score**2 for score in column) / len(column)
        # Three standard errors of the mean of 40 scores, and of their mean square.
        assert abs(mean) < 3 / len(column) ** 0.5
        assert abs(spread - 1) < 3 * (2 / len(column)) ** 0.5 + 0.1
