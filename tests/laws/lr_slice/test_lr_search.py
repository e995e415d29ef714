"""The search walks to the optimum, knows both sides of it, and spends seeds there."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lrscale.laws.lr_slice.lr_search import LRSearch


def run_search(search: LRSearch, loss: Callable[[float], float], start: int) -> dict[tuple[float, int], float]:
    """Play the search against a loss without noise and return what was run."""
    known: dict[tuple[float, int], float] = {}
    for _ in range(100):
        wanted = [key for key in search.next(known, start) if key not in known]
        if not wanted:
            return known
        known.update({key: loss(key[0]) for key in wanted})
    raise AssertionError("the search does not end")


def search(seeds: int = 3, most: int = 12) -> LRSearch:
    """Return a search with wide bounds."""
    return LRSearch(seeds=seeds, most=most, lowest=-30, highest=30)


@given(optimum=st.floats(-8, 8), start=st.integers(-8, 8), skew=st.floats(1, 4))
@settings(max_examples=200, deadline=None)
def test_the_optimum_ends_inside_with_two_learning_rates_on_each_side(optimum: float, start: int, skew: float) -> None:
    losses = [(x - optimum) ** 2 * (skew if x > optimum else 1) for x in range(-12, 13)]
    assume(abs(sorted(losses)[0] - sorted(losses)[1]) > 1e-6)
    known = run_search(search(most=30), lambda x: (x - optimum) ** 2 * (skew if x > optimum else 1), start)
    tried = sorted({index for index, _ in known})
    best = min(tried, key=lambda index: known[index, 0])
    assert sum(index < best for index in tried) >= 2
    assert sum(index > best for index in tried) >= 2
    assert abs(best - optimum) <= 1


def test_a_good_start_costs_five_learning_rates_and_two_more_seeds_at_three() -> None:
    known = run_search(search(), lambda x: x**2, 0)
    assert sorted({index for index, _ in known}) == [-2, -1, 0, 1, 2]
    assert sorted(index for index, seed in known if seed == 2) == [-1, 0, 1]
    assert len(known) == 5 + 2 * 3


def test_divergence_above_bounds_the_upper_side_and_a_half_step_is_tried_below_it() -> None:
    known = run_search(search(), lambda x: math.inf if x > 0.8 else -x, 0)
    finite = {index for (index, seed), loss in known.items() if math.isfinite(loss)}
    assert max(finite) == 0.5
    assert 1 in {index for index, _ in known}


def test_all_diverged_walks_down_until_the_budget_is_spent() -> None:
    known = run_search(search(most=6), lambda x: math.inf, 0)
    assert len(known) == 6
    assert min(index for index, _ in known) < -2


@pytest.mark.parametrize("most", [3, 5, 8])
def test_the_budget_of_learning_rates_is_kept(most: int) -> None:
    known = run_search(search(most=most), lambda x: x, 0)
    assert len({index for index, _ in known}) <= most


def test_seeds_follow_the_best_mean_when_the_first_seed_was_lucky() -> None:
    def loss(index: float, seed: int) -> float:
        return (index - 1) ** 2 - (2 if (index, seed) == (0, 0) else 0)

    known: dict[tuple[float, int], float] = {}
    for _ in range(50):
        wanted = [key for key in search().next(known, 0) if key not in known]
        if not wanted:
            break
        known.update({key: loss(*key) for key in wanted})
    assert {(1, 2), (2, 2)} <= set(known)


def test_when_the_mean_moves_the_optimum_both_sides_are_known_of_the_new_one() -> None:
    # Seed 0 says index 2, the mean over seeds says 0: below it one LR is not enough.
    first = {-1.0: 2.639, 0.0: 2.512, 1.0: 2.467, 2.0: 2.913, 3.0: 2.814, 5.0: 2.858}
    second = {-1.0: 2.657, 0.0: 2.524, 1.0: 2.711, 2.0: 2.657}
    known = {(index, 0): loss for index, loss in first.items()} | {(index, 1): loss for index, loss in second.items()}
    assert search(seeds=2).next(known, 3) == [(-2.0, 0)]
