"""One point a rung: what its last steps say."""

from __future__ import annotations

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws import analyse_range_curves
from lrscale.laws.range_test.staircase import rung_means


def test_the_last_half_of_each_rung_counts_and_an_odd_one_counts_its_larger_half() -> None:
    lr = [1e-3] * 4 + [1e-2] * 5 + [1e-1]
    rungs, loss = rung_means(lr, [9.0, 8.0, 3.0, 1.0, 7.0, 7.0, 4.0, 3.0, 2.0, 6.0])
    assert rungs.tolist() == [1e-3, 1e-2, 1e-1]
    assert loss.tolist() == [2.0, 3.0, 6.0]


def test_a_divergence_in_the_counted_part_of_a_rung_is_one_of_the_rung() -> None:
    _, loss = rung_means([1.0] * 4 + [2.0] * 4, [np.nan, 1, 1, 1, 1, 1, 1, np.inf])
    assert loss[0] == 1.0
    assert np.isnan(loss[1])


def test_a_staircase_finds_the_edge_of_the_ramp_that_it_refines() -> None:
    rungs = np.geomspace(1e-6, 10, 60)
    rng = np.random.default_rng(0)

    def loss(lr: np.ndarray) -> np.ndarray:
        return 3 - 2 / (1 + 1e-2 / lr) + np.where(lr > 0.5, (lr / 0.5) ** 2 - 1, 0)

    lr = np.repeat(rungs, 8)
    stairs = analyse_range_curves([rung_means(lr, loss(lr) + rng.normal(0, 0.1, lr.size))])
    ramp = analyse_range_curves([(rungs, loss(rungs) + rng.normal(0, 0.1, rungs.size))])
    assert stairs.status is ramp.status
    assert stairs.bracket[1] == pytest.approx(ramp.bracket[1], rel=0.4)
    # The mean over four steps has half the noise of one.
    assert stairs.curves[0].noise_sd == pytest.approx(0.05, rel=0.3)
    assert ramp.curves[0].noise_sd == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_outside_its_range_is_misuse(share: float) -> None:
    with pytest.raises(LrscaleError, match="share"):
        rung_means([1.0], [1.0], share=share)
