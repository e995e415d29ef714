"""The noise floor: the standard deviation that was put in, and what it lets the seeds tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lrscale.laws import fit_lr_slice
from lrscale.laws.replicates import chi_square_interval, smallest_difference
from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.noise_floor import NoiseFloorSection
from lrscale.store import StudyView, Trajectory
from lrscale.study import Finding
from lrscale.study.noise_rows import SeedNoise, seed_noise
from tests.study.rules.sweeps import Sweep, slice_of


def cells_of(random: int = 0, **settings: Any) -> list[dict[str, Any]]:
    trials, _ = Sweep(**settings).trials(np.random.default_rng(random))
    return [{"batch_size": size, "slice": slice_of(some).to_dict()} for size, some in trials.items()]


def by_hand(runs: list[tuple[float, float, int]], **fit: Any) -> SeedNoise:
    lr, loss, seeds = (list(column) for column in zip(*runs, strict=True))
    return seed_noise([{"batch_size": 64, "slice": {"lr": lr, "loss": loss, "seeds": seeds, **fit}}])


def card_of(cells: list[dict[str, Any]]) -> Card:
    noise = seed_noise(cells)
    finding = Finding(
        key="scaling", title="", status="ok", sentence="", tables=noise.tables, data={"noise_growth": noise.growth}
    )
    view = StudyView({}, lambda trial_id: Trajectory())
    return make_card(NoiseFloorSection(), ReportContext(plan={}, view=view, findings=(finding,)))


def test_the_shift_of_a_seed_is_not_noise() -> None:
    # Differences of the two seeds are 0.2, 0.3 and 0.1: a shift of 0.2, and 0.1 as their standard deviation.
    (row,) = by_hand([(1, 3.0, 0), (1, 3.2, 1), (2, 2.0, 0), (2, 2.3, 1), (4, 3.0, 0), (4, 3.1, 1)]).batches
    assert row["sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert row["shift_sd"] == pytest.approx(0.2 / math.sqrt(2))
    assert (row["seeds"], row["runs"], row["df"]) == (2, 6, 2)
    # Quantiles of chi-square with 2 degrees of freedom are -2 ln(1 - p); Student's t has 4.3027.
    assert row["lo"] == pytest.approx(row["sd"] * math.sqrt(2 / (-2 * math.log(0.025))))
    assert row["hi"] == pytest.approx(row["sd"] * math.sqrt(2 / (-2 * math.log(0.975))))
    assert row["smallest"] == pytest.approx(4.30265 * row["sd"], rel=1e-5)


def test_seeds_that_meet_at_one_lr_tell_the_noise_there() -> None:
    noise = by_hand([(1, 3.0, 0), (2, 2.0, 0), (2, 2.2, 1), (4, 3.1, 0)])
    (row,) = noise.batches
    assert row["sd"] == pytest.approx(0.2 / math.sqrt(2)) and row["df"] == 1
    # Two LRs have but one run each to be compared.
    assert row["seeds"] == 1
    assert [rate["lr"] for rate in noise.rates] == [2]


def test_the_noise_of_a_batch_size_is_without_the_lrs_that_its_slice_leaves_out() -> None:
    rng = np.random.default_rng(0)
    lr = np.repeat(np.geomspace(1 / 8, 8, 9), 3)
    loss = 1 + 0.02 * (lr**-0.5 + lr / 2 - 1.5) + 0.001 * rng.standard_normal(lr.size)
    loss += np.tile([0.004, 0.0, -0.004], 9)
    # Untrained at both ends, where equal runs differ two hundred times as much.
    far = (lr < 0.2) | (lr > 5)
    loss[far] = 2 + 0.2 * rng.standard_normal(int(far.sum()))
    fit = fit_lr_slice(lr, loss, seed=np.tile(np.arange(3), 9))
    found = seed_noise([{"batch_size": 64, "slice": fit.to_dict()}])
    (row,) = found.batches
    # Seven LRs at three seeds, whose levels are taken out: (7 - 1) (3 - 1).
    assert (row["sd"], row["df"]) == (fit.noise_sd, 12)
    assert row["lo"] < 0.001 < row["hi"]
    # Each level is the mean of seven runs, and their standard deviation has 0.7 of its error.
    assert row["shift_sd"] == pytest.approx(0.004, abs=3 * 0.001 / math.sqrt(7))
    # Nor does their noise come into that of the other LRs: the mean square of these is the noise of the slice.
    near = [rate for rate in found.rates if 0.2 < rate["lr"] < 5]
    mean_square = sum(rate["df"] * rate["sd"] ** 2 for rate in near) / sum(rate["df"] for rate in near)
    assert math.sqrt(mean_square) == pytest.approx(row["sd"], rel=1e-6)
    assert [rate["df"] for rate in found.rates if rate not in near] == [2.0, 2.0]
    assert all(rate["sd"] > 0.02 for rate in found.rates if rate not in near)


def test_the_interval_holds_the_noise_that_was_put_in_as_often_as_it_says() -> None:
    covered = tried = 0
    for random in range(60):
        for row in seed_noise(cells_of(random, sizes=(64, 128), factors=(0.5, 0.7, 1, 1.4, 2))).batches:
            tried += 1
            covered += row["lo"] <= 0.002 <= row["hi"]
    # 95 % of 120 within three standard errors; outliers that a fit leaves out make it a little less.
    assert 0.89 * tried <= covered


def test_the_number_is_that_of_the_fit() -> None:
    cells = cells_of()
    rows = seed_noise(cells).batches
    assert [row["sd"] for row in rows] == [cell["slice"]["noise_sd"] for cell in cells]
    assert [row["df"] for row in rows] == [cell["slice"]["noise_df"] for cell in cells]


def test_seeds_halve_the_smallest_difference() -> None:
    for row in seed_noise(cells_of()).batches:
        more, each = row["halved_by"], row["df"] / (row["seeds"] - 1)
        assert smallest_difference(row["sd"], each * (more - 1), more) <= row["smallest"] / 2 * (1 + 1e-9)
        assert smallest_difference(row["sd"], each * (more - 2), more - 1) > row["smallest"] / 2
        # The root of the number alone would take four times as many.
        assert 3 * row["seeds"] < more <= 4 * row["seeds"]


def test_noise_that_grows_with_the_lr_is_found() -> None:
    rng = np.random.default_rng(0)
    runs = []
    for lr in (0.25, 0.5, 1, 1.5, 2, 4):
        sd = 0.01 if lr <= 1 else 0.05
        runs += [(lr, math.log(lr) ** 2 + sd * float(rng.standard_normal()), seed) for seed in range(12)]
    growth = by_hand(runs, best_lr=1.0).growth
    assert growth is not None
    ratio, lo, hi = growth
    assert 1 < lo < 5 < hi and lo < ratio < hi
    assert by_hand(runs).growth is None


def test_the_sentence_has_the_number_its_interval_and_its_scope() -> None:
    cells = cells_of()
    card = card_of(cells)
    assert card.status == "ok"
    first, last = card.table("noise").rows[0], card.table("noise").rows[-1]
    assert f"{first['sd']:.1e}".replace("e-0", "e-") in card.finding
    assert "at batch 64 and " in card.finding and "At batch 512, 3 seeds tell losses apart" in card.finding
    assert f"{last['halved_by']} seeds would halve that." in card.finding
    assert "Within a factor of 4 of the best LR" in card.finding
    assert card.figure("noise").alt == card.finding


def test_one_seed_cannot_tell() -> None:
    card = card_of(cells_of(seeds=1))
    assert card.status == "cannot_tell" and "seeds=3" in card.finding
    assert card.figures == ()


def test_runs_that_are_all_equal_have_no_noise_and_no_figure() -> None:
    card = card_of(
        [{"batch_size": 64, "slice": {"lr": [1, 1, 2, 2], "loss": [1.0, 1.0, 2.0, 2.0], "seeds": [0, 1] * 2}}]
    )
    assert card.status == "ok" and card.table("noise").rows[0]["sd"] == pytest.approx(0, abs=1e-12)


def test_the_panels_are_drawn_with_a_mark_for_every_batch_size() -> None:
    from lrscale.report.svg import draw_panel, report_style

    (view,) = card_of(cells_of()).figure("noise").views
    assert [panel.title for panel in view.panels] == ["By batch size", "By learning rate"]
    with report_style():
        drawn = [draw_panel(panel, panel.wide, f"p{place}-") for place, panel in enumerate(view.panels)]
    for role in ("accent", "rule-c", "rule-b", "rule-a"):
        assert all(f"var(--{role})" in text for text in drawn)
    assert all(f">{size}</text>" in drawn[1] for size in (64, 128, 256, 512))
    assert sum(map(len, drawn)) < 40_000


def test_chi_square_intervals_are_those_of_the_tables() -> None:
    # Quantiles with 4 degrees of freedom: 0.4844 and 11.1433.
    lo, hi = chi_square_interval(1.0, 4)
    assert lo == pytest.approx(math.sqrt(4 / 11.1433), rel=1e-4)
    assert hi == pytest.approx(math.sqrt(4 / 0.4844), rel=1e-4)
