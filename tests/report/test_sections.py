from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from lrscale.report import AbstractSection, Card, ReportContext, make_cards
from lrscale.report.base import make_card
from lrscale.report.outline import SECTIONS
from lrscale.report.sections.headline import HeadlineSection
from lrscale.report.sections.optimal_lr import slope_words
from lrscale.report.words import rate

from .conftest import VARIANTS

Contexts = Callable[[str], ReportContext]


def _card(context: ReportContext, key: str) -> Card:
    section = next(section for section in SECTIONS if section.key == key)
    return make_card(section, context)


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.key)
def test_every_section_makes_a_card_or_says_why_not(
    section: AbstractSection, variant: str, context_of: Contexts
) -> None:
    context = context_of(variant)
    why_not = section.applicable(context)
    card = make_card(section, context)
    assert card.status != "error", card.notes
    assert (card.status == "absent") == (why_not is not None)
    assert card.key == section.key
    assert len(card.finding.strip()) > 10
    assert card.finding.rstrip().endswith((".", "?", ")")) or "hostile" in variant
    for figure in card.figures:
        assert figure.alt.strip()
        assert figure.views


def test_keys_are_unique_and_the_recommendation_comes_first() -> None:
    keys = [section.key for section in SECTIONS]
    assert len(keys) == len(set(keys))
    assert keys[0] == "recommendation"


def test_a_section_that_raises_leaves_the_others(context_of: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    from lrscale.report.sections.slices import SlicesSection

    def fail(self: SlicesSection, context: ReportContext) -> Card:
        raise ZeroDivisionError("no denominator")

    monkeypatch.setattr(SlicesSection, "compute", fail)
    cards = make_cards(context_of("complete"))
    assert [card.key for card in cards if card.status == "error"] == ["slices"]
    broken = next(card for card in cards if card.key == "slices")
    assert "ZeroDivisionError" in broken.notes[0]
    assert "no denominator" in broken.notes[0]


def test_slices_show_the_numbers_of_the_finding(context_of: Contexts) -> None:
    context = context_of("complete")
    finding = context.finding("scaling")
    assert finding is not None
    table = _card(context, "slices").table("slices")
    assert list(table.rows) == list(finding.tables["slices"])
    frame = table.frame()
    assert frame["best_lr"].tolist() == [row["best_lr"] for row in finding.tables["slices"]]


def test_slices_draw_every_trial_and_drop_none(context_of: Contexts) -> None:
    context = context_of("complete")
    drawn = _card(context, "slices").figure("slices").points
    wanted = {t.trial_id for t in context.trials if t.spec.schedule.name == "cosine" and t.spec.layout is None}
    assert sum(len(points) for points in drawn.values()) == len(wanted)
    statuses = {status for points in drawn.values() for _, _, status in points}
    assert statuses == {"completed", "diverged", "crashed"}


def test_optimal_lr_draws_the_measured_optima(context_of: Contexts) -> None:
    context = context_of("complete")
    finding = context.finding("scaling")
    assert finding is not None
    measured = _card(context, "optimal_lr").figure("law").points["measured"]
    by_batch = {row["batch_size"]: row["best_lr"] for row in measured}
    assert by_batch == {row["batch_size"]: row["best_lr"] for row in finding.tables["slices"]}


def test_a_censored_optimum_is_drawn_as_beyond_the_grid(context_of: Contexts) -> None:
    context = context_of("optimum outside")
    card = _card(context, "slices")
    assert "No batch size has a best LR inside its grid" in card.finding
    assert _card(context, "optimal_lr").status == "absent"


def test_slope_words_name_the_rule_that_holds() -> None:
    assert "square-root" in slope_words((0.5, 0.45, 0.55), 64)
    assert "do not separate" in slope_words((0.6, 0.4, 1.1), 64)
    assert "none of the usual rules" in slope_words((0.75, 0.7, 0.8), 64)


def test_schedules_are_sorted_by_their_difference_to_the_best(context_of: Contexts) -> None:
    card = _card(context_of("complete"), "schedules")
    differences = [row["difference"] for row in card.table("schedules").rows]
    assert differences[0] == 0
    assert differences == sorted(differences)


def test_the_table_of_trials_holds_every_trial_with_its_status(context_of: Contexts) -> None:
    context = context_of("complete")
    frame = _card(context, "trials").table("trials").frame()
    assert set(frame["trial_id"]) == set(context.view.trials)
    for _, row in frame.iterrows():
        trial = context.view.trials[row["trial_id"]]
        assert row["status"] == trial.record.status
        final = trial.record.final_loss
        assert math.isnan(row["loss"]) if final is None else row["loss"] == final


def test_throughput_rows_are_those_of_the_finding(context_of: Contexts) -> None:
    context = context_of("complete")
    finding = context.finding("throughput")
    assert finding is not None
    shown = {row["trial_id"]: row["examples_per_second"] for row in _card(context, "throughput").table("layouts").rows}
    assert shown == {row["trial_id"]: row["examples_per_second"] for row in finding.data["rows"]}


def test_trajectories_offer_each_axis_and_the_raw_values(context_of: Contexts) -> None:
    figure = _card(context_of("complete"), "trajectories").figure("by-batch")
    assert dict(figure.switches) == {
        "Show": ("training loss", "validation loss"),
        "against": ("steps", "examples", "time"),
    }
    assert [layer.mark for layer in figure.layers] == ["raw"]


def test_trajectories_without_validation_show_the_training_loss_alone(context_of: Contexts) -> None:
    figure = _card(context_of("no validation"), "trajectories").figure("by-batch")
    assert dict(figure.switches) == {"against": ("steps", "examples", "time")}


def test_the_first_screen_says_what_the_job_takes_of_devices_and_of_money(context_of: Contexts) -> None:
    context = context_of("complete")
    priced = {**context.recipe, "cost": {"price": "2.5 EUR"}}
    asked = {**(context.recommendation or {}), "devices": 2, "num_nodes": 4}
    asked["expected_seconds"] = {"value": 3600.0, "lo": 3000.0, "hi": 4500.0}
    for recipe, said in (
        (priced, "8.0 h of devices, 20.00 EUR (16.67 EUR to 25.00 EUR) at 2.5 EUR a device-hour."),
        ({}, "8.0 h of devices."),
    ):
        changed = dataclasses.replace(context, plan={**context.plan, "recipe": recipe}, recommendation=asked)
        (fact,) = [fact for fact in HeadlineSection().compute(changed).facts if fact.term == "Expect"]
        assert fact.detail == said


def test_the_first_screen_says_setting_interval_expectation_and_confidence(context_of: Contexts) -> None:
    context = context_of("complete")
    card = _card(context, "recommendation")
    assert [fact.term for fact in card.facts] == ["Train with", "Expect", "How sure", "Watch"]
    assert "95 %" in card.finding
    assert card.figure("slice").points["lr"][0] == context.recommendation["lr"]["value"]  # type: ignore[index]


def test_a_refusal_is_the_finding_of_the_first_screen(context_of: Contexts) -> None:
    import dataclasses

    context = dataclasses.replace(context_of("complete"), recommendation=None, refusal="The interval is too wide.")
    card = _card(context, "recommendation")
    assert card.status == "cannot_tell"
    assert card.finding == "The interval is too wide."


def test_range_tests_show_the_bracket_every_run_and_the_rules_of_the_finding(context_of: Contexts) -> None:
    context = context_of("complete")
    finding = context.finding("range_test")
    assert finding is not None
    card = _card(context, "range_test")
    member = finding.data["family"][0]
    batch = f"batch {member['batch_size']}"
    assert card.figure("ramp").points[batch]["bracket"] == member["bracket"]
    drawn = card.figure("confirmation").points[batch]
    assert len(drawn["runs"]) == len(member["confirmation"]["runs"])
    assert {lr for lr, _, _ in drawn["runs"]} == {run["lr"] for run in member["confirmation"]["runs"]}
    rows = card.table("suggestions").rows
    assert [row["lr"] for row in rows] == [row["lr"] for row in finding.tables["rules"]]
    assert {row["standing"] for row in rows} <= {"not told apart", "worse", "untested", "undecided"}
    told = {fact.term: fact for fact in card.facts}
    assert told["Confirmed LR"].value.startswith(rate(member["confirmation"]["lr"])[:3])
    assert told["Warm-up"].detail.startswith("derived")
    assert told["One cycle, base and peak"].detail.startswith("derived")


def test_range_tests_without_a_confirmation_say_that_suggestions_are_untested(context_of: Contexts) -> None:
    context = context_of("complete")
    finding = context.finding("range_test")
    assert finding is not None
    family = [{**member, "confirmation": None} for member in finding.data["family"]]
    bare = dataclasses.replace(finding, data={**finding.data, "family": family})
    others = tuple(one for one in context.findings if one.key != "range_test")
    card = _card(dataclasses.replace(context, findings=(bare, *others)), "range_test")
    assert [figure.key for figure in card.figures] == ["ramp"]
    assert card.facts == ()


def test_the_first_figure_marks_what_the_rules_name_for_a_larger_batch(context_of: Contexts) -> None:
    context = context_of("complete")
    asked = context.recommendation
    assert asked is not None
    scaling = context.finding("scaling")
    assert scaling is not None
    best = {row["batch_size"]: row["best_lr"] for row in scaling.tables["slices"]}
    small, large = (
        _card(dataclasses.replace(context, recommendation={**asked, "global_batch_size": size}), "recommendation")
        for size in (32, 128)
    )
    marked = large.figure("slice").points["rules"]
    # From batch 32 to 128: 4 times, 2 times and once the LR.
    assert marked == {
        name: pytest.approx(factor * best[32]) for name, factor in (("linear", 4), ("square root", 2), ("constant", 1))
    }
    texts = [entry.label for entry in large.figure("slice").legend]
    assert texts[1].startswith(f"square root from batch 32: LR {rate(2 * best[32])}, ")
    assert all(" % loss (" in text or text.endswith("outside of the LRs tried") for text in texts)
    # At the batch size from which the rules start there is nothing to mark.
    assert small.figure("slice").points["rules"] == {} and not small.figure("slice").legend


def test_the_energy_of_trials_is_said_to_be_unknown_rather_than_guessed(context_of: Contexts) -> None:
    (fact,) = [fact for fact in _card(context_of("complete"), "provenance").facts if fact.term == "Energy"]
    assert fact.value == "not measured" and "no energy counter" in fact.detail
