"""The card on the edge of stability."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from lrscale.laws.stability import SharpnessPoint, sharpness_course
from lrscale.report import ReportContext
from lrscale.report.base import make_card
from lrscale.report.sections.stability import StabilitySection
from lrscale.store import StudyView, Trial

Contexts = Callable[[str], ReportContext]


def with_margins(context: ReportContext) -> ReportContext:
    """Return a study whose trials at a fixed LR have margins that fall to a third."""
    trials = {}
    for name, trial in context.view.trials.items():
        lr = trial.spec.peak_lr
        points = [SharpnessPoint(step=20 * k + 1, lr=lr, margin=0.03 / lr / (1 + k)) for k in range(3)]
        points.append(SharpnessPoint(step=81, lr=lr, margin=1e-6, bound="below"))
        measured = {**trial.record.measurements, "sharpness": sharpness_course(points).to_dict()}
        record = trial.record if trial.spec.layout else dataclasses.replace(trial.record, measurements=measured)
        trials[name] = Trial(trial.spec, record)
    return dataclasses.replace(context, view=StudyView(trials, context.view.load_trajectory))


def test_the_rows_count_what_diverged_and_what_spiked(context_of: Contexts) -> None:
    context = context_of("complete")
    card = make_card(StabilitySection(), context)
    assert card.status == "ok" and card.figures == ()
    frame = card.table("stability").frame()
    fixed = [one for one in context.trials if one.spec.schedule.name != "ramp" and one.spec.layout is None]
    assert frame["trials"].sum() == len(fixed)
    assert frame["diverged"].sum() == sum(one.record.status == "diverged" for one in fixed)
    assert frame["spikes"].sum() == sum(len(one.record.measurements["stability"]["spikes"]) for one in fixed) > 0
    first = frame[(frame["batch_size"] == 32) & (frame["spikes"] > 0)]["lr"].min()
    assert f"At batch 32 the loss spikes from LR {first:.1e}".replace("e-0", "e-") in card.finding or first >= 0.01


def test_margins_are_drawn_without_the_updates_that_were_uphill(context_of: Contexts) -> None:
    context = with_margins(context_of("one batch size"))
    card = make_card(StabilitySection(), context)
    assert card.status == "ok", card.notes
    frame = card.table("stability").frame()
    assert frame["margin"].tolist() == pytest.approx([0.01 / lr for lr in frame["lr"]])
    points = card.figure("margins").points
    assert points and all([step for step, _ in course] == [1, 21, 41] for course in points.values())
    assert "The smallest margin is" in card.finding


def test_a_study_that_was_not_watched_has_no_card(context_of: Contexts) -> None:
    context = context_of("one batch size")
    bare = {
        name: Trial(one.spec, dataclasses.replace(one.record, measurements={}))
        for name, one in context.view.trials.items()
    }
    card = make_card(
        StabilitySection(), dataclasses.replace(context, view=StudyView(bare, context.view.load_trajectory))
    )
    assert card.status == "absent" and "instruments.stability" in card.finding
