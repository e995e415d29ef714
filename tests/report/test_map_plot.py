"""The map of LR and batch size: its areas are the level sets of the fitted slices."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lrscale.laws import fit_lr_slice
from lrscale.report import ReportContext, make_cards
from lrscale.report.map_plot import LEVELS, map_rows
from lrscale.report.slice_plot import SliceData


def test_an_area_ends_where_the_loss_is_its_level_above_the_lowest() -> None:
    # loss = 1 + 0.1 (x^-1 + x - 2) with x = lr / 0.01: a share e above the lowest at x + 1/x = 2 + 10 e.
    lrs = np.geomspace(0.01 / 32, 0.01 * 32, 21)
    losses = 1 + 0.1 * (0.01 / lrs + lrs / 0.01 - 2)
    fit = fit_lr_slice(lrs, losses).to_dict()
    (row,) = map_rows([{"batch_size": 64, "slice": fit}], [SliceData.of("batch 64", (), fit)])
    assert row.best == pytest.approx(0.01, rel=0.02)
    for level, ends in zip(LEVELS, row.within, strict=True):
        assert ends is not None
        half = 1 + 5 * level
        x = half + math.sqrt(half**2 - 1)
        # The grid of the slice has steps of 1.7 %.
        assert ends == pytest.approx((0.01 / x, 0.01 * x), rel=0.06)


def test_areas_are_nested_and_hold_the_best_lr(context_of: Callable[[str], ReportContext]) -> None:
    context = context_of("complete")
    card = next(card for card in make_cards(context) if card.key == "optimal_lr")
    rows = card.figure("map").points["map"]
    assert len(rows) == 2
    for _, best, *within in rows:
        inner = (best, best)
        for ends in within:
            assert ends[0] <= inner[0] and inner[1] <= ends[1]
            inner = ends


def test_without_two_optima_there_is_no_map(context_of: Callable[[str], ReportContext]) -> None:
    for variant in ("all diverged", "one batch size"):
        card = next(card for card in make_cards(context_of(variant)) if card.key == "optimal_lr")
        assert "map" not in [figure.key for figure in card.figures]
