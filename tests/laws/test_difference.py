from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom, ttest_ind, ttest_rel

from lrscale.errors import LrscaleError
from lrscale.laws import Difference, MinimaComparison, compare_minima, fit_lr_slice, paired_difference

from .simulated import grid


def test_the_paired_interval_is_students():
    rng = np.random.default_rng(0)
    base = rng.standard_normal(6)
    a = dict(enumerate(base + 0.1 * rng.standard_normal(6)))
    b = dict(enumerate(base - 0.2 + 0.1 * rng.standard_normal(6)))
    found = paired_difference(a, b)
    reference = ttest_rel(list(a.values()), list(b.values()))
    interval = reference.confidence_interval(0.95)
    assert (found.interval.lo, found.interval.hi) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(reference.pvalue)
    assert (found.n_pairs, found.df, found.paired, found.verdict) == (6, 5, True, "higher")


def test_without_common_seeds_it_is_welchs():
    a, b = {0: 1.0, 1: 1.2, 2: 0.9}, {7: 2.0, 8: 2.5}
    found = paired_difference(a, b)
    reference = ttest_ind(list(a.values()), list(b.values()), equal_var=False)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.df == pytest.approx(reference.df)
    assert not found.paired


def test_pairing_finds_what_seed_noise_hides():
    seeds = {0: 2.0, 1: 2.6, 2: 1.7, 3: 2.2}
    a = {seed: loss - 0.05 for seed, loss in seeds.items()}
    b = {seed: loss + 0.01 * (-1) ** seed for seed, loss in seeds.items()}
    assert paired_difference(a, b).verdict == "lower"
    assert paired_difference(a, {seed + 10: loss for seed, loss in b.items()}).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("gaps", "margin", "verdict"),
    [
        ([0.0, 0.001, -0.001, 0.0005], 0.01, "equivalent"),
        ([0.0, 0.001, -0.001, 0.0005], 0.0, "cannot tell"),
        ([0.5, -0.5, 0.4, -0.3], 0.01, "cannot tell"),
        ([-0.5, -0.52, -0.49, -0.5], 0.01, "lower"),
        ([0.5, 0.52, 0.49, 0.5], 0.01, "higher"),
    ],
)
def test_verdicts(gaps, margin, verdict):
    a = {seed: 2 + gap for seed, gap in enumerate(gaps)}
    assert paired_difference(a, dict.fromkeys(range(4), 2.0), margin=margin).verdict == verdict


def test_diverged_runs_are_counted_and_never_averaged():
    found = paired_difference({0: 1.0, 1: None, 2: 1.1, 3: float("inf")}, {0: 1.2, 1: 1.3, 2: 1.35, 3: 1.0})
    assert found.diverged == (2, 0)
    assert found.n_pairs == 2
    assert found.value == pytest.approx(-0.225)


def test_one_pair_cannot_tell():
    found = paired_difference({0: 1.0}, {0: 0.5})
    assert (found.verdict, found.interval, found.value) == ("cannot tell", None, 0.5)
    assert paired_difference({}, {0: 1.0}).value is None
    assert Difference.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_a_negative_margin_is_misuse():
    with pytest.raises(LrscaleError, match="margin"):
        paired_difference({0: 1.0}, {0: 0.5}, margin=-1)


def settings_of(offsets, rng, noise=0.01, seeds=3, block=0.03, labels=True):
    """Return fitted slices of settings with different best LRs; offsets are their true minima."""
    lr = np.tile(grid(7), seeds)
    seed = np.repeat(np.arange(seeds), 7)
    common = block * rng.standard_normal(seeds)
    fits = {}
    for name, offset in offsets.items():
        u = np.log(lr) - rng.uniform(-0.3, 0.3)
        loss = 2 + offset + 0.05 * (u**2 + 0.1 * u**3) + common[seed] + noise * rng.standard_normal(lr.size)
        fits[name] = fit_lr_slice(lr, loss, seed=seed if labels else None, resamples=200)
    return fits


def test_ties_rarely_have_a_winner():
    rng = np.random.default_rng(1)
    studies = 40
    false = sum(compare_minima(settings_of(dict.fromkeys("abc", 0.0), rng)).winner is not None for _ in range(studies))
    # Above this count with probability 0.1 % if the false-winner rate is 5 %.
    assert false <= binom.ppf(0.999, studies, 0.05)


@pytest.mark.parametrize("labels", [True, False])
def test_a_setting_that_is_better_by_many_sd_wins(labels):
    rng = np.random.default_rng(2)
    found = compare_minima(
        settings_of({"a": 0.1, "b": 0.0, "c": 0.12}, rng, block=0.0 if not labels else 0.03, labels=labels)
    )
    assert found.winner == "b"
    assert found.rows[0].name == "b"
    assert found.rows[0].standing == "best"
    assert all(row.standing == "worse" and row.gap.interval.lo > 0 for row in found.rows[1:])


def test_close_settings_tie_and_equivalent_ones_are_called_so():
    rng = np.random.default_rng(3)
    fits = settings_of({"a": 0.0, "b": 0.001, "c": 0.5}, rng, noise=0.002, seeds=6)
    found = compare_minima(fits, margin=0.05)
    assert found.winner is None
    assert set(found.tied) == {"a", "b"}
    assert found.rows[1].standing == "equivalent"
    assert found.rows[2].standing == "worse"


def test_no_winner_while_a_setting_is_not_located():
    rng = np.random.default_rng(4)
    fits = settings_of({"a": 0.0, "b": 0.5}, rng)
    lr = grid(7)
    fits["c"] = fit_lr_slice(lr, 1.0 - 0.1 * np.log(lr))
    found = compare_minima(fits)
    assert found.winner is None
    assert found.rows[-1].standing == "not comparable"
    assert "c is not comparable: censored_high" in found.reason


def test_a_comparison_survives_json_exactly():
    found = compare_minima(settings_of({"a": 0.0, "b": 0.01}, np.random.default_rng(5)), margin=0.02)
    assert MinimaComparison.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_nothing_comparable_is_an_answer():
    found = compare_minima({"a": fit_lr_slice([1e-3], [1.0])})
    assert (found.winner, found.tied, found.reason) == (None, (), "No setting has a located minimum.")
