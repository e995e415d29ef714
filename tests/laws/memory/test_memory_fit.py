"""Peak memory against the batch: recovery, coverage, and what is not on the line."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.memory import MemoryStatus, fit_memory
from lrscale.laws.memory.model import round_sizes

GIB = 2.0**30


def test_a_line_without_noise_is_recovered() -> None:
    fit = fit_memory({size: 3 * GIB + 0.02 * GIB * size for size in (4, 8, 16, 96)})
    assert fit.status is MemoryStatus.OK
    assert fit.fixed == pytest.approx(3 * GIB, rel=1e-9)
    assert fit.per_example == pytest.approx(0.02 * GIB, rel=1e-9)
    assert fit.largest_within(6 * GIB, sure=False) == 150
    assert fit.largest_within(6 * GIB) < 150


def test_small_sizes_whose_peak_is_the_optimizer_step_do_not_bend_the_line() -> None:
    peaks = {size: max(5 * GIB, 3 * GIB + 0.1 * GIB * size) for size in (1, 2, 4, 8, 32, 64, 128)}
    fit = fit_memory(peaks)
    assert fit.line_from == 32
    assert fit.predict(256)[0] == pytest.approx(28.6 * GIB, rel=1e-6)
    # A line through all sizes would miss the peak at 256 by half a GiB.
    sizes = np.array(list(peaks))
    naive = np.polyval(np.polyfit(sizes, list(peaks.values()), 1), 256)
    assert abs(naive - 28.6 * GIB) > 0.5 * GIB


def test_the_interval_of_a_prediction_holds_the_next_measurement_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([4, 8, 16, 32, 64])
    inside = 0
    for _ in range(600):
        noise = 0.02 * GIB * rng.standard_normal(6)
        peaks = dict(zip(sizes.tolist(), 2 * GIB + 0.05 * GIB * sizes + noise[:5], strict=True))
        inside += fit_memory(peaks).predict(96)[1].contains(2 * GIB + 0.05 * GIB * 96 + noise[5])
    # 3 binomial standard errors are 2.7 %; splits that BIC takes for a floor cost some.
    assert 0.92 <= inside / 600 <= 0.98


def test_two_sizes_and_a_flat_peak_are_told_apart() -> None:
    assert fit_memory({4: 1e9, 8: 1.1e9}).status is MemoryStatus.TOO_FEW_SIZES
    flat = fit_memory({4: 1e9, 8: 1.0005e9, 16: 0.9995e9, 32: 1.0002e9})
    assert flat.status is MemoryStatus.NOT_RISING
    with pytest.raises(LrscaleError, match="does not rise measurably"):
        flat.predict(64)


def test_what_is_no_measurement_is_refused() -> None:
    with pytest.raises(LrscaleError, match="a peak of 0 bytes at batch 4"):
        fit_memory({4: 0.0, 8: 1.0})


def test_neighbouring_sizes_differ_by_a_sixteenth_at_most() -> None:
    sizes = round_sizes(5000)
    assert sizes[:32] == list(range(1, 33))
    ratios = [after / before for before, after in itertools.pairwise(sizes[31:])]
    assert max(ratios) <= 1 + 1 / 16
    assert {size: size in sizes for size in (64, 96, 100, 104, 1024, 4096)} == {
        64: True, 96: True, 100: True, 104: True, 1024: True, 4096: True
    }  # fmt: skip
