from __future__ import annotations

from lrscale.cli.finding_tables import table_lines
from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.rules import RulesSection
from lrscale.store import StudyView, Trajectory
from lrscale.study import Finding
from lrscale.study.experiments.rules import Rules
from tests.study.rules.sweeps import Sweep


def found() -> Finding:
    return Rules().analyse(Sweep(level=lambda size: 1 + 0.03 * (size > 64)).evidence(0, law=True).context)


def card_of(*findings: Finding) -> Card:
    context = ReportContext(plan={}, view=StudyView({}, lambda trial_id: Trajectory()), findings=findings)
    return make_card(RulesSection(), context)


def test_every_rule_has_a_row_and_every_untold_one_what_it_takes() -> None:
    finding = found()
    card = card_of(finding)
    assert card.finding == finding.sentence and card.status == "ok"
    rows = card.table("rules").rows
    assert len(rows) == len(finding.tables["rules"])
    untold = [row["rule"] for row in rows if row["verdict"] == "cannot tell"]
    assert [row["rule"] for row in card.table("needed").rows] == untold
    assert all(row["needs"] for row in card.table("needed").rows)
    shown = next(row for row in card.table("seen").rows if row["rule"] == "final_loss")
    assert shown["effect"] in next(row["effect"] for row in rows if row["rule"] == "final_loss")
    assert (shown["verdict"], shown["jointly"]) == ("holds", "stands")


def test_without_the_finding_the_section_says_how_to_get_it() -> None:
    card = card_of()
    assert card.status == "absent" and "experiments.rules: {}" in card.finding


def test_a_terminal_shows_rule_verdict_and_effect() -> None:
    finding = found()
    lines = table_lines(finding)
    for row in finding.tables["rules"]:
        assert any(row["claim"] in line and row["verdict"] in line and str(row["effect"]) in line for line in lines)
