"""Slices whose losses span a large range: far runs, and their noise, do not decide about the minimum."""

from __future__ import annotations

import numpy as np
import pytest

from lrscale.laws import fit_lr_slice
from lrscale.laws.lr_slice.near_noise import relative_variance
from lrscale.laws.lr_slice.window import without_far
from lrscale.laws.runs import read_runs

# Final validation losses of lrscale.zoo.DigitsMLP by seed, of the recipe `digits`.
ONE_CYCLE = {  # batch 256, one_cycle, 62 steps
    0.004: [0.1434],
    0.008: [0.0819],
    0.016: [0.0589, 0.0684, 0.0744],
    0.032: [0.0550, 0.0610, 0.0552],
    0.064: [0.0806, 0.0579, 0.0586],
    0.128: [0.0458, 0.0883, 0.0898],
    0.256: [0.1675, 0.3635, 0.1014],
    0.512: [1.0237],
}
GRID = {  # batch 128, cosine, 125 steps
    0.0005: [1.2550, 1.4400],
    0.000998: [0.4566, 0.5167],
    0.00199: [0.1658, 0.1653],
    0.00397: [0.0843, 0.0784],
    0.00793: [0.0632, 0.0554],
    0.0158: [0.0416, 0.0361],
    0.0316: [0.0328, 0.0307],
    0.063: [0.0939, 0.0612],
    0.126: [0.0960, 0.1151],
    0.251: [1.2635, 1.2664],
    0.501: [2.3134, 2.6832],
    1.0: [2.3143, 3.9888],
}


def rows(table: dict[float, list[float]]) -> tuple[list[float], list[float], list[int]]:
    flat = [(lr, loss, seed) for lr, losses in table.items() for seed, loss in enumerate(losses)]
    lrs, losses, seeds = (list(column) for column in zip(*flat, strict=True))
    return lrs, losses, seeds


@pytest.mark.parametrize("table", [ONE_CYCLE, GRID], ids=["one_cycle", "grid"])
@pytest.mark.parametrize("offset", [0.0, -3.0], ids=["positive", "negative"])
def test_the_minimum_lies_where_the_runs_near_it_end(table: dict[float, list[float]], offset: float) -> None:
    lrs, losses, seeds = rows(table)
    fit = fit_lr_slice(lrs, [loss + offset for loss in losses], seed=seeds)
    assert fit.ok
    assert fit.best_lr is not None
    assert fit.min_loss is not None
    near = [loss + offset for lr, loss in zip(lrs, losses, strict=True) if 0.4 < lr / fit.best_lr < 2.5]
    # With one noise for all, the fitted minima lay 0.02 and 0.2 below all of these runs.
    assert min(near) - 0.01 < fit.min_loss < max(near)
    interval = fit.min_loss_interval
    assert interval is not None
    assert interval.lo is not None
    assert interval.lo > offset


def test_what_far_runs_end_at_changes_nothing() -> None:
    lrs, losses, seeds = rows(GRID)
    fit = fit_lr_slice(lrs, losses, seed=seeds)
    other = fit_lr_slice(lrs, [loss * 2 if loss > 1 else loss for loss in losses], seed=seeds)
    assert (fit.best_lr, fit.min_loss) == (other.best_lr, other.min_loss)
    assert "leaves out 4 LRs" in fit.reason
    left_out = [loss for loss, fitted in zip(losses, fit.fitted, strict=True) if fitted is None]
    assert min(left_out) == 1.2550
    assert fit.n_runs == 24
    assert fit.loss == tuple(losses)


def test_slices_of_equal_noise_keep_all_runs_and_equal_weights() -> None:
    rng = np.random.default_rng(7)
    moved = 0
    for _ in range(200):
        x = np.tile(np.arange(-3.5, 4.0), 3) * np.log(2)
        loss = 3 + 0.02 * x**2 + rng.normal(0, 0.01, x.size)
        runs = read_runs(np.exp(x), loss, None, np.repeat([0, 1, 2], 8))
        assert without_far(runs)[0] is runs
        moved += bool(np.any(relative_variance(runs) > 1))
    # Two sides, each at p < 0.01.
    assert moved <= 10


def test_two_lrs_stay_on_each_side_however_far_they_are() -> None:
    lrs = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    losses = [0.104, 0.103, 0.102, 0.101, 0.1, 2.0, 3.0]
    _, kept = without_far(read_runs(lrs, losses, None, None))
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 6]
    _, kept = without_far(read_runs([*lrs, 128.0], [*losses, 5.0], None, None))
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_noise_that_grows_towards_divergence_is_that_of_the_far_runs_alone() -> None:
    lrs, losses, seeds = rows(ONE_CYCLE)
    variance = dict(
        zip(zip(lrs, seeds, strict=True), relative_variance(read_runs(lrs, losses, None, seeds)), strict=True)
    )
    assert variance[0.032, 0] == variance[0.008, 0] == 1
    assert variance[0.256, 0] > 20
