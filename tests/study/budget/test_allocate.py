"""A budget goes first to what decides most, and answers as many questions as it can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrscale.study.budget import Allowance
from lrscale.study.budget.allocate import Ask, Need, allocate

ASKS = [
    Ask(key="range_test", importance=10, needs=(Need(trials=30), Need(trials=12), Need(trials=2))),
    Ask(key="schedules", importance=70, needs=(Need(trials=60), Need(trials=40))),
    Ask(key="scaling", importance=20, needs=(Need(trials=50), Need(trials=20))),
    Ask(key="throughput", importance=50, needs=(Need(trials=6),)),
]


def of(trials: int) -> dict[str, int | None]:
    """Return the forms that some trials buy."""
    return allocate(ASKS, Allowance(trials=trials))


def test_everything_is_answered_where_the_budget_reaches() -> None:
    assert set(of(146).values()) == {0}
    assert set(allocate(ASKS, Allowance()).values()) == {0}


def test_what_decides_most_is_asked_first_and_lifted_first() -> None:
    assert of(1) == {"range_test": None, "scaling": None, "throughput": None, "schedules": None}
    assert of(2) == {"range_test": 2, "scaling": None, "throughput": None, "schedules": None}
    assert of(29) == {"range_test": 1, "scaling": None, "throughput": 0, "schedules": None}
    assert of(38) == {"range_test": 0, "scaling": None, "throughput": 0, "schedules": None}
    assert of(60) == {"range_test": 0, "scaling": 1, "throughput": 0, "schedules": None}
    assert of(100) == {"range_test": 0, "scaling": 0, "throughput": 0, "schedules": None}
    assert of(130) == {"range_test": 0, "scaling": 0, "throughput": 0, "schedules": 1}


def test_a_small_question_is_asked_before_a_large_one_is_lifted() -> None:
    assert of(35) == {"range_test": 1, "scaling": None, "throughput": 0, "schedules": None}
    assert of(8) == {"range_test": 2, "scaling": None, "throughput": 0, "schedules": None}


def test_a_time_that_is_not_known_bounds_nothing() -> None:
    asks = [Ask(key="a", importance=1, needs=(Need(trials=5, seconds=None),))]
    assert allocate(asks, Allowance(seconds=1.0)) == {"a": 0}


def test_a_question_that_is_answered_stays_so_when_nothing_is_left() -> None:
    asks = [Ask(key="done", importance=9, needs=(Need(),)), *ASKS]
    assert allocate(asks, Allowance(trials=0))["done"] == 0


needs = st.lists(st.integers(0, 60), min_size=1, max_size=4).map(
    lambda sizes: tuple(Need(trials=size) for size in sorted(sizes, reverse=True))
)


@given(st.lists(needs, min_size=1, max_size=6), st.integers(0, 200))
def test_no_allocation_spends_more_than_there_is(forms: list[tuple[Need, ...]], trials: int) -> None:
    asks = [Ask(key=str(place), importance=place, needs=own) for place, own in enumerate(forms)]
    chosen = allocate(asks, Allowance(trials=trials))
    spent = sum(ask.needs[form].trials for ask in asks if (form := chosen[ask.key]) is not None)
    assert spent <= trials
    left_out = [ask.needs[-1].trials for ask in asks if chosen[ask.key] is None]
    assert all(least > trials - spent for least in left_out) or not left_out or spent > 0
