"""The section on the noise scale: what is measured is drawn, and bounds are drawn as bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lrscale.laws.noise_scale import GradientSums, NoiseScale, RunNoiseScale, noise_scale, noise_scale_course
from lrscale.report import Card, ReportContext
from lrscale.report.base import make_card
from lrscale.report.html import render_page
from lrscale.report.outline import SECTIONS
from lrscale.report.svg import report_style
from lrscale.store import StudyView, Trial
from lrscale.store.trajectory import Trajectory

Contexts = Callable[[str], ReportContext]
DIMENSION, COUNT = 20, 4


def measurement(batch_size: int, seed: int, scale: float, steps: int = 160) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    examples = batch_size / COUNT
    spread = np.sqrt(scale / DIMENSION / examples)
    drawn = np.sqrt(1 / DIMENSION) + rng.normal(0, spread, (steps, COUNT, DIMENSION))
    sums = GradientSums(
        step=np.arange(steps),
        count=np.full(steps, COUNT),
        examples=np.full(steps, examples),
        mean_square=np.sum(drawn**2, axis=2).mean(axis=1),
        square_mean=np.sum(drawn.mean(axis=1) ** 2, axis=1),
    )

    def run(total: NoiseScale) -> dict[str, Any]:
        return RunNoiseScale(
            total=total,
            groups={"weights": total, "biases": total},
            preconditioned=NoiseScale.not_measured("no optimizer of Adam's kind"),
            preconditioned_groups={},
            course=noise_scale_course(sums),
            notes=(),
        ).to_dict()

    return {"whole": run(noise_scale(sums)), "late": run(noise_scale(sums[steps // 2 :]))}


@pytest.fixture
def context(context_of: Contexts) -> ReportContext:
    """Return a study whose trials carried the instrument; the larger batch does not resolve its gradient."""
    plain = context_of("complete")

    def measured(trial: Trial) -> Trial:
        if trial.record.status != "completed" or trial.spec.layout is not None:
            return trial
        size = trial.spec.global_batch_size
        found = measurement(size, trial.spec.seed, 60.0 if size == 32 else 3e4)
        return Trial(trial.spec, dataclasses.replace(trial.record, measurements={"noise_scale": found}))

    trials = {trial_id: measured(trial) for trial_id, trial in plain.view.trials.items()}
    return dataclasses.replace(plain, view=StudyView(trials, lambda trial_id: Trajectory()), _trajectories={})


def card_of(context: ReportContext) -> Card:
    return make_card(next(section for section in SECTIONS if section.key == "noise_scale"), context)


def test_what_rode_on_the_trials_is_shown_without_an_experiment_of_its_own(context: ReportContext) -> None:
    card = card_of(context)
    assert card.status == "ok", card.notes
    assert "noise-scale proxy" in card.finding
    rows = {row["batch_size"]: row for row in card.table("batch_sizes").rows}
    assert list(rows) == [32, 128]
    assert rows[32]["lo"] < 60 < rows[32]["hi"]
    assert rows[32]["noise_scale_text"].count(" to ") == 1
    assert rows[128]["noise_scale"] is None and rows[128]["noise_scale_text"].endswith(" or more")
    assert {row["group"] for row in card.table("groups").rows} == {"all", "weights", "biases"}
    assert len(card.table("temperature").rows) > 2
    assert [check.name for check in card.checks] == ["gradient resolved at batch 128"]
    assert any("orders of magnitude below" in note for note in card.notes)


def test_windows_with_a_number_and_windows_with_a_bound_are_all_drawn(context: ReportContext) -> None:
    points = card_of(context).figure("course").points
    low, high = points["batch 32"], points["batch 128"]
    assert all(value is not None and lo < value < hi for _, _, value, lo, hi in low)
    assert low[0][0] == 0 and low[-1][1] == 160 * 32
    assert any(value is None and hi is None and lo > 0 for _, _, value, lo, hi in high)


def test_the_figure_is_drawn_in_both_widths_with_the_batch_size_marked(context: ReportContext) -> None:
    with report_style():
        page = render_page([card_of(context)], head={"title": "study", "facts": [], "counts": [], "footer": ""})
    assert page.count("batch size used: 32") >= 1
    assert "the gradient is not resolved" in page


def test_a_study_without_measurements_says_so(context_of: Contexts) -> None:
    card = card_of(context_of("complete"))
    assert card.status == "absent" and "instruments.noise_scale" in card.finding
