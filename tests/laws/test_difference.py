from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from lrscale.errors import LrscaleError
from lrscale.laws import Difference, paired_difference


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
