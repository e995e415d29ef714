from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lrscale.recipe.lines import dump_yaml, read_yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.from_regex(r"[-+0-9._eExb:]{1,8}", fullmatch=True)
)
KEYS = st.text(min_size=1, max_size=10)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(TREES)
def test_whatever_is_written_is_read_back(tree: Any) -> None:
    document = read_yaml(dump_yaml(tree))
    assert document.problems == ()
    assert document.value == tree


@given(TREES)
def test_every_entry_has_a_line(tree: Any) -> None:
    text = dump_yaml(tree)
    lines = read_yaml(text).lines
    paths = {()} | set(_paths(tree, ()))
    assert set(lines) == paths
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def _paths(tree: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in entries for found in [(*path, key), *_paths(value, (*path, key))]]


@given(st.text(max_size=200))
def test_any_text_is_a_document_or_has_a_problem(text: str) -> None:
    document = read_yaml(text)
    assert document.problems or document.value is None or () in document.lines


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_have_a_problem(raw: bytes) -> None:
    document = read_yaml(raw.decode("latin-1"))
    assert document.problems or document.value is None or () in document.lines


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("1.e-3", 1e-3),
        (".5", 0.5),
        ("-2.5e+3", -2500.0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b11", 3),
        ("010", "010"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2026-01-02", "2026-01-02"),
        ("yes", True),
        ("~", None),
        ("1e", "1e"),
        ("e3", "e3"),
        ("'1e-3'", "1e-3"),
        ("v1.2", "v1.2"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_scalar_is_read_as_people_mean_it(written: str, value: Any) -> None:
    read = read_yaml(f"x: {written}").value["x"]
    assert read == value
    assert type(read) is type(value)


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_every_spelling_of_a_float_is_a_number(number: float) -> None:
    for spelling in (repr(number), f"{number:e}", f"{number:g}", f"{number:.3e}".replace("e-0", "e-")):
        read = read_yaml(spelling).value
        assert isinstance(read, (int, float))
        assert math.isclose(read, float(spelling))


def test_keys_are_text_as_written() -> None:
    assert read_yaml("1: a\non: b\nno: c\n2.50: d").value == {"1": "a", "on": "b", "no": "c", "2.50": "d"}


def test_a_merge_key_fills_what_is_not_written() -> None:
    document = read_yaml("base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\n")
    assert document.value["other"] == {"a": 1, "b": 3}
    assert document.problems == ()
    assert document.lines["other", "b"] == 4


def test_the_first_of_several_merged_mappings_wins() -> None:
    text = "x: &x {a: 1}\ny: &y {a: 2, b: 2}\nz:\n  <<: [*x, *y]\n"
    expected = yaml.safe_load(text)
    assert read_yaml(text).value == expected


def test_a_duplicate_is_found_at_any_depth() -> None:
    document = read_yaml("a:\n  b:\n    c: 1\n    d: 2\n    c: 3\n")
    assert [(problem.line, problem.message) for problem in document.problems] == [
        (5, "a.b.c is written twice, first on line 3")
    ]


def test_an_alias_that_holds_itself_is_a_problem() -> None:
    assert "contains itself" in read_yaml("a: &a {b: *a}").problems[0].message


def test_a_document_made_to_exhaust_memory_is_a_problem() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "100000 entries" in read_yaml(text).problems[0].message


def test_nesting_without_end_is_a_problem() -> None:
    assert "nested too deeply" in read_yaml("[" * 5_000).problems[0].message
