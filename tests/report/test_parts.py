from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.report import words
from lrscale.report.canvas import linear_ticks, log_ticks, spread
from lrscale.report.palette import LEVELS, LR_DARK, LR_LIGHT, ROLES, LRScale, variables
from lrscale.report.svg import clean_svg
from lrscale.report.thin import keep_extremes, smooth, sparse

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def _luminance(color: str) -> float:
    # Relative luminance and contrast as WCAG 2.1 defines them.
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("role", ["ink", "muted", "accent", "bad", "warn", "good", "rule-a", "rule-b", "rule-c"])
def test_text_has_a_contrast_of_at_least_four_and_a_half(role: str, theme: int) -> None:
    for ground in ("card", "page"):
        assert _contrast(ROLES[role][theme], ROLES[ground][theme]) >= 4.5


@pytest.mark.parametrize(("levels", "theme"), [(LR_LIGHT, 0), (LR_DARK, 1)], ids=["light", "dark"])
def test_every_lr_colour_is_visible_and_the_order_is_one_of_lightness(levels: tuple[str, ...], theme: int) -> None:
    contrasts = [_contrast(level, ROLES["card"][theme]) for level in levels]
    assert len(levels) == LEVELS
    assert min(contrasts) >= 3
    assert contrasts == sorted(contrasts)


def test_colours_that_stand_for_roles_are_all_different() -> None:
    assert len(variables()) == len(ROLES) + LEVELS


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=40))
def test_levels_rise_with_the_lr(rates: list[float]) -> None:
    scale = LRScale.of(rates)
    levels = [scale.level(lr) for lr in scale.rates]
    assert levels == sorted(levels)
    assert all(0 <= level < LEVELS for level in levels)


@given(st.lists(finite, min_size=1, max_size=500), st.integers(1, 40))
def test_thinning_keeps_the_extremes_and_both_ends(values: list[float], bins: int) -> None:
    y = np.array(values, dtype=np.float64)
    x = np.arange(len(y), dtype=np.float64)
    kept_x, kept_y = keep_extremes(x, y, bins)
    assert len(kept_y) <= max(2 * bins + 2, 1)
    assert (kept_y.min(), kept_y.max()) == (y.min(), y.max())
    assert (kept_x[0], kept_x[-1]) == (x[0], x[-1])
    assert (np.diff(kept_x) > 0).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_smoothing_stays_within_the_values_and_keeps_their_number(values: list[float]) -> None:
    y = np.array(values, dtype=np.float64)
    smoothed = smooth(y)
    slack = 1e-6 * (1 + np.abs(y).max()) * len(y)
    assert len(smoothed) == len(y)
    assert smoothed.min() >= y.min() - slack
    assert smoothed.max() <= y.max() + slack


def test_smoothing_a_line_does_not_lag_behind_it() -> None:
    y = np.arange(1000.0)
    assert np.allclose(smooth(y)[100:900], y[100:900])


@given(st.integers(1, 100_000), st.integers(2, 200))
def test_sparse_indices_hold_both_ends_in_order(length: int, points: int) -> None:
    index = sparse(length, points)
    assert index[0] == 0
    assert index[-1] == length - 1
    assert (np.diff(index) > 0).all()


@given(st.floats(1e-9, 1e6), st.floats(1.3, 1e9), st.integers(2, 12))
def test_log_ticks_lie_inside_and_are_not_too_many(lo: float, ratio: float, places: int) -> None:
    ticks, _ = log_ticks(lo, lo * ratio, places)
    assert all(lo * (1 - 1e-6) <= value <= lo * ratio * (1 + 1e-6) for value in ticks)
    assert len(ticks) <= places + 1


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_linear_ticks_are_evenly_spaced(lo: float, span: float, places: int) -> None:
    ticks = linear_ticks(lo, lo + span, places)
    assert len(ticks) <= places + 1
    if len(ticks) > 2:
        assert np.allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6, atol=1e-9 * (1 + abs(lo)))


@given(st.lists(st.floats(0, 200), min_size=1, max_size=8))
def test_labels_never_come_closer_than_the_gap(places: list[float]) -> None:
    moved = sorted(spread(places, gap=12, lo=0, hi=200))
    assert all(after - before >= 12 - 1e-6 for before, after in itertools.pairwise(moved))


@given(st.floats(1e-12, 1e12))
def test_two_significant_digits_are_within_five_percent(value: float) -> None:
    assert math.isclose(float(words.significant(value)), value, rel_tol=0.051)


@given(st.text(max_size=300))
def test_short_names_are_one_line_without_control_characters(text: str) -> None:
    line = words.short(text, 40)
    assert len(line) <= 40
    assert "\n" not in line
    assert all(char.isprintable() or char == " " for char in line)


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e3))
def test_a_loss_and_its_interval_have_the_same_digits(value: float, width: float) -> None:
    text = words.loss_between(value, value - width, value + width)
    numbers = text.replace("(", "").replace(")", "").split()
    decimals = {len(part.partition(".")[2]) for part in numbers if part != "to" and "e" not in part}
    assert len(decimals) <= 1


def test_svg_ids_get_the_prefix_and_unused_ones_go() -> None:
    source = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10">'
        '<metadata/><defs><style type="text/css">*{}</style></defs>'
        '<g id="axes_1"><defs><path id="m1" d="M 0 0.04 \nL 1.26 1"/></defs><g clip-path="url(#c1)">'
        '<use xlink:href="#m1" style="fill: #1a1f26; opacity: 0.5"/></g></g>'
        '<defs><clipPath id="c1"><rect/></clipPath></defs></svg>'
    )
    cleaned = clean_svg(source, prefix="p-")
    assert 'id="p-m1"' in cleaned
    assert 'href="#p-m1"' in cleaned
    assert "url(#p-c1)" in cleaned
    assert "axes_1" not in cleaned
    assert "xmlns" not in cleaned
    assert 'fill="var(--ink)"' in cleaned
    assert "style" not in cleaned
    assert "L1.3 1" in cleaned
