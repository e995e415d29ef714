"""Trials against the curves of their slices: LR means, the farthest trial, and any trend that is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from lrscale.laws import fit_lr_slice
from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.fit_diagnostics import FitDiagnosticsSection
from lrscale.store import StudyView, Trajectory
from lrscale.study import Finding
from lrscale.study.fit_residuals import ALARM, fit_residuals
from tests.study.rules.sweeps import Sweep, slice_of

LRS = (0.3, 0.4, 0.7, 1.0, 1.5, 2.5, 3.5)
SMALL = [0.1, -0.1, 0.05, 0.0, -0.05, 0.1, -0.1]


def cells_of(random: int = 0, **settings: Any) -> list[dict[str, Any]]:
    trials, _ = Sweep(**settings).trials(np.random.default_rng(random))
    return [{"batch_size": size, "slice": slice_of(some).to_dict()} for size, some in trials.items()]


def cell(residual: list[float | None], size: int = 64, **fit: Any) -> dict[str, Any]:
    """Return a slice with a best LR of 1 whose residuals should have 0.1, on 10 degrees of freedom of replicates."""
    known = {
        "status": "ok",
        "vertex": 0.0,
        "noise_sd": 0.1,
        "noise_df": 10.0,
        "noise_source": "replicates",
        "misfit": 1.0,
        "misfit_df": [4.0, 10.0],
        "lr": LRS,
        "residual": residual,
        "residual_sd": [0.1] * len(residual),
    }
    return {"batch_size": size, "slice": {**known, **fit}}


def card_of(cells: list[dict[str, Any]], **more: Any) -> Card:
    tables = {**fit_residuals(cells).tables, **more.pop("tables", {})}
    finding = Finding(key="scaling", title="", status="ok", sentence="", tables=tables, data=more)
    view = StudyView({}, lambda trial_id: Trajectory())
    return make_card(FitDiagnosticsSection(), ReportContext(plan={}, view=view, findings=(finding,)))


def test_residuals_are_in_units_of_what_the_fit_expects_of_each_trial() -> None:
    found = fit_residuals([cell([0.1, -0.2, 0.0, None, 0.05, 0.3, -0.1], residual_sd=[0.1] * 5 + [0.6, 0.1])])
    assert [row["standardised"] for row in found.trials] == pytest.approx([1, -2, 0, 0.5, 0.5, -1])
    (row,) = found.batches
    assert (row["trials"], row["lr"], row["largest"]) == (6, 0.4, pytest.approx(-2))


def test_the_largest_residual_is_bounded_as_in_lunds_table() -> None:
    # Lund's table at 5 % for 20 residuals of a line: 2.77 on 18 degrees of freedom; the formula is of ALARM instead.
    t = t_distribution.isf(0.05 / 40, 17)
    assert t * np.sqrt(18 / (17 + t * t)) == pytest.approx(2.77, abs=0.01)
    (row,) = fit_residuals([cell(SMALL, noise_source="residuals", misfit=None, noise_df=18.0)]).batches
    t = t_distribution.isf(ALARM / 14, 17)
    assert row["largest_chance"] == pytest.approx(t * np.sqrt(18 / (17 + t * t)))


def test_lr_means_and_replicates_bound_the_largest_residual_together() -> None:
    (alone,) = fit_residuals([cell(SMALL, noise_source="residuals", misfit=None, noise_df=14.0)]).batches
    (row,) = fit_residuals([cell(SMALL, misfit=2.75)]).batches
    # The pooled mean square is (10 + 4 * 2.75) / 14 of that of the replicates.
    assert row["largest_chance"] == pytest.approx(1.5**0.5 * alone["largest_chance"])


def test_a_slice_whose_outlier_lost_weight_is_held_against_student_without_it() -> None:
    (row,) = fit_residuals([cell(SMALL, outliers=[2], misfit=None)]).batches
    assert row["outliers"] == 1 and row["largest_chance"] == pytest.approx(t_distribution.isf(ALARM / 14, 10))


def test_few_residuals_at_one_seed_bound_no_residual() -> None:
    (row,) = fit_residuals([cell(SMALL, noise_source="residuals", misfit=None, noise_df=3.0)]).batches
    assert row["largest_chance"] is None and row["misfit"] is None


def test_lack_of_fit_is_held_against_f_at_a_level_that_all_slices_share() -> None:
    first, _ = fit_residuals([cell(SMALL, misfit=4.0), cell(SMALL, 128)]).batches
    assert (first["misfit"], first["miss"]) == pytest.approx((2.0, 0.1 * 3**0.5))
    assert first["misfit_chance"] == pytest.approx(f_distribution.isf(ALARM / 2, 4, 10) ** 0.5)


def test_the_zones_have_the_means_of_their_lrs_and_joint_intervals() -> None:
    below, around, above = fit_residuals([cell([0.1, -0.2, 0.0, 0.1, 0.05, 0.3, -0.1])]).zones
    assert [row["mean"] for row in (below, around, above)] == pytest.approx([-0.5, 0.5, 1.0])
    # Two LRs: the quantile of t with 1 degree of freedom at 1 - a is cot(pi a), and a sixth of ALARM is in each tail.
    half = 1.5 / np.tan(np.pi * ALARM / 6)
    assert (below["lo"], below["hi"]) == pytest.approx((-0.5 - half, -0.5 + half))


def test_replicates_of_an_lr_count_once() -> None:
    twice = cell([0.2, 0.2, 0.2, -0.1], lr=(0.3, 0.3, 0.3, 0.4), seeds=[0, 1, 2, 0])
    (row,) = fit_residuals([twice]).zones
    assert (row["rates"], row["trials"]) == (2, 4) and row["mean"] == pytest.approx(0.5)


def test_trials_of_the_law_that_is_fitted_pass_every_question() -> None:
    card = card_of(cells_of(1))
    assert card.status == "ok"
    assert card.finding.startswith("Nothing contradicts the fits: mean losses lie off their curves by at most ")
    assert "None of 72 trials stands out" in card.finding and "No trend with the LR is seen" in card.finding
    assert card.figure("residuals").alt == card.finding


def test_few_studies_of_right_curves_raise_an_alarm() -> None:
    raised = 0
    for random in range(30):
        card = card_of(cells_of(random, sizes=(64, 128), factors=(0.2, 0.4, 0.8, 1.6, 3.2)))
        raised += "do not hold" in card.finding
    # Of 30 studies at 5 %, more than 4 are raised in 1.6 % (binomial).
    assert raised <= 4


def test_a_kink_that_no_basin_has_is_found_in_replicates() -> None:
    cells = []
    for size in (64, 128):
        rng = np.random.default_rng(size)
        lr = np.repeat(np.geomspace(1 / 6, 6, 6), 3)
        loss = 1 + 0.3 * np.abs(np.log(lr)) + 0.004 * rng.standard_normal(lr.size)
        fit = fit_lr_slice(lr, loss, seed=np.tile(np.arange(3), 6))
        cells.append({"batch_size": size, "slice": fit.to_dict()})
    card = card_of(cells)
    assert card.finding.startswith("The fits do not hold everywhere: ") and "lie off the curve by" in card.finding


def test_a_misfit_a_trial_that_stands_out_and_a_trend_are_said() -> None:
    cells = [cell([-0.2, -0.24, 0.0, 0.0, 0.0, 0.2, 0.24], size) for size in (64, 128)]
    cells.append(cell([-0.2, -0.24, 0.0, 0.9, -0.1, 0.2, 0.24], 256, misfit=9.0, status="poor_fit"))
    card = card_of(cells)
    assert card.finding.startswith(
        "The fits do not hold everywhere: at batch 256 mean losses lie off the curve by 3.0 times what the noise "
        "explains (chance alone: up to 2.7); what noise does not explain is 0.28 of loss, and its best LR is not used."
    )
    assert "Of 21 trials one is 9.0 expected deviations off (batch 256, LR 1.0; chance alone: " in card.finding
    assert "2.2 expected deviations (1.8 to 2.6) below the curve below 1/2 of the best LR" in card.finding
    assert "2.2 expected deviations (1.8 to 2.6) above the curve above 2 times the best LR" in card.finding


def test_one_seed_cannot_tell_a_wrong_curve_from_noise() -> None:
    card = card_of([cell(SMALL, noise_source="residuals", misfit=None, noise_df=3.0)])
    assert card.status == "cannot_tell"
    assert "`--set experiments.scaling.seeds=3`" in card.finding and "are too few to tell" in card.finding


def test_the_runner_up_and_its_leave_one_out_error_are_read_from_the_finding() -> None:
    law = {"law": "power", "runner_up": "square_root", "aicc_difference": 1.3}
    rows = ({"law": "power", "loo": 0.18}, {"law": "square_root", "loo": 0.25})
    first, second = card_of([cell([0.0] * 6 + [0.1])], law=law, tables={"laws": rows}).facts
    assert first.value == "square root after power, AICc 1.3 higher: as good as each other."
    assert second.value == "Missed by 0.18 of ln LR by power, 0.25 by square root."


def test_slices_whose_optimum_lies_outside_have_no_residuals() -> None:
    card = card_of([cell([0.1] * 7, status="censored_high")])
    assert card.status == "absent" and "no residuals" in card.finding


def test_the_panel_is_drawn_with_a_mark_for_every_batch_size() -> None:
    from lrscale.report.svg import draw_panel, report_style

    ((panel,),) = (view.panels for view in card_of(cells_of(1)).figure("residuals").views)
    with report_style():
        drawn = draw_panel(panel, panel.wide, "p-")
    assert all(f">{size}</text>" in drawn for size in (64, 128, 256, 512))
    assert len(drawn) < 30_000
