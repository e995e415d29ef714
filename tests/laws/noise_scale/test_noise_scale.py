"""The noise scale from simulated micro-gradients whose truth is known."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.noise_scale.estimate import noise_scale, noise_scale_course, steps_for
from lrscale.laws.noise_scale.gradient_sums import GradientSums
from lrscale.laws.noise_scale.result import NoiseScale, NoiseScaleStatus, RunNoiseScale

FloatArray = NDArray[np.float64]
DIMENSION = 20


def gradients(
    rng: np.random.Generator, steps: int, count: int, examples: float, square: float, trace: float
) -> FloatArray:
    """Return micro-gradients, shape (steps, count, DIMENSION), of isotropic noise."""
    noise = rng.normal(0, np.sqrt(trace / DIMENSION / examples), (steps, count, DIMENSION))
    return np.sqrt(square / DIMENSION) + noise


def sums_of(drawn: FloatArray, examples: float, first: int = 0) -> GradientSums:
    steps, count, _ = drawn.shape
    return GradientSums(
        step=np.arange(first, first + steps),
        count=np.full(steps, count),
        examples=np.full(steps, examples),
        mean_square=np.sum(drawn**2, axis=2).mean(axis=1),
        square_mean=np.sum(drawn.mean(axis=1) ** 2, axis=1),
    )


def joined(*parts: GradientSums) -> GradientSums:
    tables = [part.to_dict() for part in parts]
    return GradientSums(**{name: np.concatenate([table[name] for table in tables]) for name in tables[0]})


def coverage() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "coverage_noise_scale.py"
    spec = importlib.util.spec_from_file_location("coverage_noise_scale", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@given(st.integers(2, 6), st.floats(0.5, 64), st.integers(0, 2**31))
def test_the_estimates_are_the_u_statistic_and_the_sample_covariance(count: int, examples: float, seed: int) -> None:
    drawn = gradients(np.random.default_rng(seed), 3, count, examples, 1.0, 5.0)
    sums = sums_of(drawn, examples)
    for step, some in enumerate(drawn):
        products = some @ some.T
        off_diagonal = (products.sum() - np.trace(products)) / (count * (count - 1))
        assert sums.squared_gradient[step] == pytest.approx(off_diagonal, rel=1e-9, abs=1e-9)
        assert sums.noise_trace[step] == pytest.approx(examples * np.trace(np.atleast_2d(np.cov(some.T))), rel=1e-9)


def test_two_micro_gradients_give_the_two_batch_estimators() -> None:
    # McCandlish et al. 2018 (arXiv:1812.06162), appendix A.1, with small batch 8 and big batch 16.
    sums = GradientSums(step=[0], count=[2], examples=[8], mean_square=[7.0], square_mean=[4.0])
    assert sums.squared_gradient[0] == pytest.approx((16 * 4 - 8 * 7) / (16 - 8))
    assert sums.noise_trace[0] == pytest.approx((7 - 4) / (1 / 8 - 1 / 16))


@pytest.mark.parametrize(("count", "examples"), [(2, 16.0), (8, 4.0)])
def test_both_averages_are_unbiased_for_every_split_of_a_batch(count: int, examples: float) -> None:
    found = noise_scale(sums_of(gradients(np.random.default_rng(1), 4000, count, examples, 0.5, 40.0), examples))
    assert found.squared_gradient is not None and found.squared_gradient_se is not None
    assert found.noise_trace is not None and found.noise_trace_se is not None
    assert abs(found.squared_gradient - 0.5) < 3 * found.squared_gradient_se < 0.15
    assert abs(found.noise_trace - 40) < 3 * found.noise_trace_se < 3


def test_steps_of_different_layouts_combine_without_bias_and_better_ones_weigh_more() -> None:
    rng = np.random.default_rng(2)
    coarse = sums_of(gradients(rng, 2000, 2, 2, 0.5, 40.0), 2)
    fine = sums_of(gradients(rng, 1000, 8, 8, 0.5, 40.0), 8, first=2000)
    both, alone = noise_scale(joined(coarse, fine)), noise_scale(fine)
    assert both.interval is not None and both.interval.contains(80)
    assert both.squared_gradient_se is not None and alone.squared_gradient_se is not None
    assert both.squared_gradient_se < 1.05 * alone.squared_gradient_se
    assert abs(both.squared_gradient - 0.5) < 3 * both.squared_gradient_se


def test_unequal_micro_batches_are_described_by_their_harmonic_mean() -> None:
    rng, sizes = np.random.default_rng(3), np.array([16.0, 16.0, 3.0])
    noise = rng.normal(0, np.sqrt(40 / DIMENSION), (6000, 3, DIMENSION)) / np.sqrt(sizes)[:, None]
    found = noise_scale(sums_of(np.sqrt(2.0 / DIMENSION) + noise, len(sizes) / np.sum(1 / sizes)))
    assert found.noise_trace is not None and found.noise_trace_se is not None
    assert abs(found.noise_trace - 40) < 3 * found.noise_trace_se
    arithmetic = 40 * sizes.mean() * np.mean(1 / sizes)
    assert arithmetic - found.noise_trace > 20 * found.noise_trace_se


def test_averages_divided_last_are_right_where_what_others_do_is_wrong() -> None:
    # Truth 1000 examples at batch 64: the gradient is far below the noise of a step.
    sums = sums_of(gradients(np.random.default_rng(4), 4000, 8, 8, 0.04, 40.0), 8)
    found = noise_scale(sums)
    assert found.value is not None and found.interval is not None
    assert found.interval.contains(1000)
    negative = sums.squared_gradient < 0
    assert 0.2 < negative.mean() < 0.6
    clipped = sums.noise_trace.mean() / np.maximum(sums.squared_gradient, 0).mean()
    per_step = np.median(sums.noise_trace / sums.squared_gradient)
    big_norm = sums.noise_trace.mean() / sums.square_mean.mean()
    for wrong in (clipped, per_step, big_norm):
        assert wrong < 500
        assert not found.interval.contains(wrong)


def test_all_micro_gradients_bring_more_than_the_last_one_alone() -> None:
    drawn = gradients(np.random.default_rng(5), 20000, 4, 8, 0.04, 40.0)
    sums = sums_of(drawn, 8)
    # The two-batch estimate of |G|^2 from the last micro-gradient and the mean of all.
    last = (4 * sums.square_mean - np.sum(drawn[:, -1] ** 2, axis=1)) / 3
    assert np.mean(last) == pytest.approx(np.mean(sums.squared_gradient), abs=0.02)
    # By the variances of Gaussian noise: sqrt(1 + (1 - 1 / n)) for n = 4 where noise is all there is.
    assert 1.2 < np.std(last) / np.std(sums.squared_gradient) < 1.45


def test_a_gradient_that_noise_hides_gives_a_lower_bound_only() -> None:
    bounds = []
    for seed in range(200):
        found = noise_scale(sums_of(gradients(np.random.default_rng(seed), 60, 2, 4, 0.01, 40.0), 4))
        if found.status is NoiseScaleStatus.LOWER_BOUND:
            assert found.value is None
            assert found.interval is not None
            assert found.interval.hi is None
            assert found.interval.confidence == pytest.approx(0.975)
            bounds.append(found.interval.lo)
    assert len(bounds) > 195
    # 97.5 % of the bounds lie below the truth of 4000; three standard errors of that share.
    assert np.mean(np.array(bounds) < 4000) > 0.975 - 3 * np.sqrt(0.975 * 0.025 / 200)
    assert min(bounds) > 0


def test_a_drift_of_both_averages_is_no_error() -> None:
    rng, steps = np.random.default_rng(6), 800
    square = np.geomspace(40, 0.4, steps)
    noise = rng.normal(0, np.sqrt(40 / DIMENSION / 8), (steps, 4, DIMENSION))
    found = noise_scale(sums_of(np.sqrt(square / DIMENSION)[:, None, None] + noise, 8))
    assert found.interval is not None
    assert found.interval.contains(40 / square.mean())
    # Each step errs by the variance of the U-statistic; the spread of |G|^2 itself is 15 times the standard error.
    variance = 4 * square * 40 / DIMENSION / 32 + 2 * 40**2 / DIMENSION / (64 * 12)
    assert found.squared_gradient_se == pytest.approx(np.sqrt(variance.sum()) / steps, rel=0.2)


def test_the_effective_dimension_and_the_steps_needed_come_back() -> None:
    found = noise_scale(sums_of(gradients(np.random.default_rng(7), 4000, 4, 8, 0.04, 40.0), 8))
    assert found.effective_dimension == pytest.approx(DIMENSION, rel=0.25)
    assert found.relative_se is not None
    assert found.steps_needed(found.relative_se / 2) == pytest.approx(4 * 4000, abs=1)
    planned = steps_for(
        1000, global_batch_size=32, micro_gradients=4, effective_dimension=DIMENSION, relative_error=0.1
    )
    assert found.steps_needed(0.1) == pytest.approx(planned, rel=0.35)


def test_the_course_follows_a_noise_scale_that_grows() -> None:
    rng = np.random.default_rng(8)
    parts = [sums_of(gradients(rng, 400, 4, 8, square, 40.0), 8, first=400 * k) for k, square in enumerate((4, 1))]
    early, late = noise_scale_course(joined(*parts), windows=2)
    assert (early.first_step, early.last_step, late.first_step, late.last_step) == (0, 399, 400, 799)
    for found, truth in ((early, 10), (late, 40)):
        assert found.value is not None and found.relative_se is not None
        assert abs(found.value / truth - 1) < 3 * found.relative_se < 0.15
    assert len(noise_scale_course(parts[0][:35])) == 3


@pytest.mark.parametrize(
    ("sums", "status", "words"),
    [
        (sums_of(np.ones((9, 2, 3)), 4), NoiseScaleStatus.TOO_FEW_STEPS, "9 measured steps, and at least 10"),
        (sums_of(np.ones((20, 2, 3)), 4), NoiseScaleStatus.NOT_MEASURED, "given the same examples"),
        (sums_of(np.zeros((20, 2, 3)), 4), NoiseScaleStatus.NOT_MEASURED, "every gradient was 0"),
    ],
)
def test_no_answer_has_a_reason(sums: GradientSums, status: NoiseScaleStatus, words: str) -> None:
    found = noise_scale(sums)
    assert found.status is status
    assert words in found.reason
    assert words in found.summary()
    assert found.value is None and found.interval is None
    assert found.steps == len(sums)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": [1]},
        {"examples": [0]},
        {"mean_square": [np.nan]},
        {"square_mean": [-1.0]},
        {"step": [0, 1]},
    ],
)
def test_impossible_sums_are_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"step": [0], "count": [2], "examples": [4], "mean_square": [2.0], "square_mean": [1.0]}
    with pytest.raises(LrscaleError):
        GradientSums(**{**right, **wrong})


def test_results_survive_json() -> None:
    sums = sums_of(gradients(np.random.default_rng(9), 50, 4, 8, 1.0, 40.0), 8)
    found = noise_scale(sums)
    assert NoiseScale.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    nothing = NoiseScale.not_measured("nothing")
    run = RunNoiseScale(
        total=found,
        groups={"a": found},
        preconditioned=nothing,
        preconditioned_groups={},
        course=noise_scale_course(sums),
        notes=("one note",),
    )
    assert RunNoiseScale.from_dict(json.loads(json.dumps(run.to_dict()))) == run
    assert run.summary().startswith("Noise scale ")
    assert np.array_equal(GradientSums.from_dict(sums.to_dict()).mean_square, sums.mean_square)


def test_intervals_cover_the_truth_of_a_few_noisy_quadratics() -> None:
    benchmark = coverage()
    studies = 60
    for case in (benchmark.CASES[2], benchmark.CASES[6]):
        _, covered, _, width = benchmark.row(case, studies)
        assert covered / studies > 0.95 - 3 * np.sqrt(0.95 * 0.05 / studies)
        assert 0.05 < width < 0.6


@pytest.mark.slow
def test_intervals_cover_the_truth_of_noisy_quadratics_in_93_to_97_percent() -> None:
    for name, covered, studies, _ in coverage().rows(1000):
        assert 0.93 <= covered / studies <= 0.975, name
