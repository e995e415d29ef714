"""The gap between validation and training loss: as it was put in, by batch size and LR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.generalisation import GeneralisationSection
from lrscale.store import StudyView, Trajectory
from lrscale.study import Finding
from lrscale.study.gap_rows import gap_rows
from tests.study.rules.sweeps import Sweep, slice_of


def rows_of(**settings: Any) -> tuple[dict[str, Any], ...]:
    trials, _ = Sweep(**settings).trials(np.random.default_rng(0))
    return gap_rows(trials, {size: slice_of(some) for size, some in trials.items()})


def card_of(rows: tuple[dict[str, Any], ...]) -> Card:
    finding = Finding(key="scaling", title="", status="ok", sentence="", tables={"gaps": rows})
    view = StudyView({}, lambda trial_id: Trajectory())
    return make_card(GeneralisationSection(), ReportContext(plan={}, view=view, findings=(finding,)))


def test_the_gap_of_each_batch_size_and_lr_is_the_one_put_in() -> None:
    rows = rows_of(gap=lambda size, x: 0.1 + 0.001 * size / 64 + 0.01 * x, gap_noise=1e-6)
    assert len(rows) == 4 * 6
    for row in rows:
        x = row["lr"] / (0.01 * (row["batch_size"] / 64) ** 0.5)
        assert row["gap"] == pytest.approx(0.1 + 0.001 * row["batch_size"] / 64 + 0.01 * x, abs=1e-5)
        assert row["lo"] < row["gap"] < row["hi"] and row["seeds"] == 3
        assert row["loss"] - row["train_loss"] == pytest.approx(row["gap"])
    # One LR of each batch size is the nearest to its best.
    nearest = [row for row in rows if row["nearest"]]
    assert [row["batch_size"] for row in nearest] == [64, 128, 256, 512]
    for row in nearest:
        assert 0.5 <= row["lr"] / (0.01 * (row["batch_size"] / 64) ** 0.5) <= 2


def test_the_sentence_names_the_smallest_and_the_largest_batch() -> None:
    card = card_of(rows_of(gap=lambda size, x: 0.1 * size / 64, gap_noise=1e-6))
    assert card.status == "ok"
    assert card.finding.startswith("At batch 64 and LR 0.01")
    assert "ends 0.10 (95 % 0.10 to 0.10, 3 seeds) above the training loss" in card.finding
    assert "at batch 512" in card.finding and "0.80" in card.finding
    assert len(card.table("gaps").rows) == 24


def test_trials_compared_by_their_training_loss_have_no_gap() -> None:
    rows = rows_of(monitor="train_loss")
    assert rows == ()
    card = card_of(rows)
    assert card.status == "absent" and "both a validation loss and a training loss" in card.finding


def test_one_seed_has_a_gap_without_an_interval() -> None:
    rows = rows_of(seeds=1)
    assert {row["lo"] for row in rows} == {None}
    assert "(1 seed)" in card_of(rows).finding


def test_a_panel_is_drawn_for_every_batch_size() -> None:
    from lrscale.report.svg import draw_panel, report_style

    card = card_of(rows_of())
    (view,) = card.figure("gaps").views
    assert [panel.title for panel in view.panels] == ["batch 64", "batch 128", "batch 256", "batch 512"]
    with report_style():
        assert all("<svg" in draw_panel(panel, panel.wide, f"p{place}-") for place, panel in enumerate(view.panels))


def test_a_validation_loss_below_the_training_loss_is_said_to_be_below() -> None:
    card = card_of(rows_of(gap=lambda size, x: -0.2, gap_noise=1e-6))
    assert "ends 0.20 (95 % 0.20 to 0.20, 3 seeds) below the training loss" in card.finding
