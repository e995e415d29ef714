"""Budgets, prices and speeds are read as people write them, and written so that they can be read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError, RecipeError
from lrscale.recipe import Budget, Price, Recipe, Speed, parse_recipe


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("30m", 1800, "seconds"),
        ("30 min", 1800, "seconds"),
        ("2h", 7200, "seconds"),
        ("1.5 hours", 5400, "seconds"),
        ("1h 30m", 5400, "seconds"),
        ("1d2h3m4s", 93784, "seconds"),
        ("0.5s", 0.5, "seconds"),
        ("1e6 examples", 1_000_000, "examples"),
        ("1.5M examples", 1_500_000, "examples"),
        ("20 trials", 20, "trials"),
        ("1 trial", 1, "trials"),
    ],
)
def test_a_budget_is_read_with_its_unit(text: str, value: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(float(value), unit)  # type: ignore[arg-type]  # one of the three units


NO_BUDGETS = """
30|30M|h|-3h|0h|0 trials|1.5 trials|2h 3h|3m 2h|20 steps|nan h|1e99 trials|1e999999999 examples|2h and a bit|5 hoursx
"""


@pytest.mark.parametrize("text", ["", *NO_BUDGETS.strip().split("|")])
def test_what_is_no_budget_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(LrscaleError):
        Budget.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_a_budget_or_a_refusal(text: str) -> None:
    try:
        assert Budget.parse(text).value > 0
    except LrscaleError as error:
        assert error.message


amounts = st.one_of(
    st.builds(Budget, st.integers(1, 10**15).map(float), st.sampled_from(["examples", "trials"])),
    st.builds(Budget, st.integers(1, 10**9).map(lambda tenths: tenths / 10), st.just("seconds")),
)


@given(amounts)
def test_a_budget_is_written_as_it_can_be_read(budget: Budget) -> None:
    assert Budget.parse(str(budget)) == budget


@given(st.integers(1, 10**12).map(lambda hundredths: hundredths / 100))
def test_a_speed_is_written_as_it_can_be_read(value: float) -> None:
    assert Speed.parse(str(Speed(value))) == Speed(value)


@pytest.mark.parametrize(("text", "told"), [("2.5", "10.00"), ("2.5 EUR", "10.00 EUR"), ("$2.5", "$10.00")])
def test_a_price_keeps_its_currency_where_it_stood(text: str, told: str) -> None:
    assert Price.parse(text).of(4.0) == told
    assert Price.parse(str(Price.parse(text))) == Price.parse(text)


RECIPE = """
name: demo
task: {model: {class_path: shop.Net}}
cost:
  budget: 30m
  price: 2.5
  throughput: 3000 examples/s
"""


def test_a_recipe_states_its_cost_and_keeps_it() -> None:
    recipe = parse_recipe(RECIPE)
    assert recipe.cost.budget == Budget(1800.0, "seconds")
    assert recipe.cost.price == Price(2.5)
    assert recipe.cost.throughput == Speed(3000.0)
    assert Recipe.model_validate(recipe.dump()) == recipe


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("budget: 30", r"cost\.budget must be written with its unit, not 30.*30m"),
        ("budget: 30 lightyears", r"cost\.budget cannot be read: '30 lightyears' is not a budget"),
        ("price: cheap", r"cost\.price cannot be read: 'cheap' is not a price"),
        ("throughput: 3000", r"cost\.throughput must be written with its unit, not 3000.*3000 examples/s"),
    ],
)
def test_a_wrong_amount_names_its_place_and_the_remedy(wrong: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_recipe(f"name: demo\ntask: {{model: {{class_path: shop.Net}}}}\ncost: {{{wrong}}}\n")
