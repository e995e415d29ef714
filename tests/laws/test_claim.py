"""Claims judged in both directions: what they decide, and how often that is false."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.claim import Claim, every, holm

STUDIES = 4000
LEEWAY = 3 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_at_the_threshold_five_percent_of_the_verdicts_of_pairs_are_given(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    given = sum(
        Claim.of_pairs(own, threshold=0.3).verdict != "cannot tell"  # type: ignore[union-attr]
        for own in 0.3 + 0.1 * rng.standard_normal((STUDIES, seeds))
    )
    assert given / STUDIES == pytest.approx(0.05, abs=LEEWAY)


def test_at_the_threshold_five_percent_of_the_verdicts_of_draws_are_given() -> None:
    rng = np.random.default_rng(1)
    given = 0
    for error in rng.standard_normal(STUDIES):
        given += Claim.of_draws(error + rng.standard_normal(400)).verdict != "cannot tell"
    # Percentiles of 400 draws are not exact.
    assert given / STUDIES == pytest.approx(0.05, abs=LEEWAY + 0.005)


def test_a_clear_effect_is_told_in_its_direction() -> None:
    rng = np.random.default_rng(2)
    above = [Claim.of_pairs(own, threshold=0.3) for own in 0.6 + 0.1 * rng.standard_normal((500, 4))]
    verdicts = [one.verdict for one in above if one is not None]
    assert verdicts.count("does not hold") == 0
    assert verdicts.count("holds") > 0.8 * len(verdicts)


def test_p_values_agree_with_the_verdict() -> None:
    for value in np.linspace(-1, 1, 41):
        claim = Claim.of_t(float(value), 0.3, 5, threshold=0.1)
        assert (claim.verdict != "cannot tell") == (claim.p_value < 0.05)
        assert claim.p_below + claim.p_above == pytest.approx(1)


def test_a_claim_about_all_is_false_in_at_most_five_percent() -> None:
    rng = np.random.default_rng(3)
    # Two of three at the threshold: the worst case for "holds" is one at it and the others far above.
    for means in ([0.0, 5.0, 5.0], [0.0, 0.0, 0.0]):
        false = 0
        for errors in rng.standard_normal((STUDIES, 3)):
            claims = [Claim.of_t(mean + error, 1.0, 1e6) for mean, error in zip(means, errors, strict=True)]
            false += every(claims).verdict != "cannot tell"
        assert false / STUDIES < 0.05 + LEEWAY


def test_magnitude_is_told_in_both_directions_and_as_none() -> None:
    rng = np.random.default_rng(4)
    draws = rng.standard_normal(1000)
    assert Claim.of_magnitude(0.1 * draws - 1, threshold=0.5).verdict == "holds"
    assert Claim.of_magnitude(0.1 * draws + 1, threshold=0.5).verdict == "holds"
    assert Claim.of_magnitude(0.1 * draws, threshold=0.5).verdict == "does not hold"
    assert Claim.of_magnitude(draws, threshold=0.5).verdict == "cannot tell"


def test_equality_is_claimed_falsely_in_at_most_five_percent_at_either_margin() -> None:
    rng = np.random.default_rng(6)
    for truth in (-0.3, 0.3):
        given = 0
        for errors in 0.1 * rng.standard_normal((STUDIES, 4)):
            sample = truth + errors
            claim = Claim.of_equality(float(sample.mean()), float(sample.std(ddof=1)) / 2, 3, margin=0.3)
            given += claim.verdict != "cannot tell"
        assert given / STUDIES < 0.05 + LEEWAY


def test_a_negated_claim_says_the_same() -> None:
    claim = Claim.of_t(1.0, 0.2, 4, threshold=0.5)
    back = claim.negated().negated()
    assert back == claim
    assert (claim.negated().value, claim.negated().hi) == (-claim.value, -(claim.lo or 0))


def test_one_seed_decides_nothing_and_equal_ones_do() -> None:
    assert Claim.of_pairs([0.5]) is None
    equal = Claim.of_pairs([0.5, 0.5], threshold=0.1)
    assert equal is not None and equal.verdict == "holds" and equal.p_value == 0.0
    floored = Claim.of_pairs([0.5, 0.5], threshold=0.1, se_floor=1.0)
    assert floored is not None and floored.verdict == "cannot tell"


def test_misuse_is_named() -> None:
    with pytest.raises(LrscaleError, match="cannot be judged"):
        Claim.of_t(1.0, -0.1, 4)
    with pytest.raises(LrscaleError, match="too few to judge"):
        Claim.of_draws([1.0, math.nan])


def test_holm_is_that_of_the_textbook() -> None:
    # Smallest times 4, next times 3 and so on, never decreasing.
    adjusted = holm({"a": 0.005, "b": 0.011, "c": 0.02, "d": 0.9})
    assert adjusted == pytest.approx({"a": 0.02, "b": 0.033, "c": 0.04, "d": 0.9})
