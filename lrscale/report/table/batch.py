"""Best LR against batch size, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lrscale.report.base import Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.fits import law_curve
from lrscale.report.sections.optimal_lr import (
    COMPETING,
    LAW_COLUMNS,
    METHOD,
    anchor_of,
    draw_law,
    law_table_rows,
    measured_optima,
)
from lrscale.report.table.groups import drawn_groups, group_label, left_out, named, switched
from lrscale.report.words import count, finite, listing

if TYPE_CHECKING:
    from lrscale.sweep import GroupFit, SweepFit

_RULES = (("constant", "one LR"), ("square_root", "square root"), ("linear", "linear"))
TITLE = "How does the learning rate scale with the batch size?"


def law_card(fit: SweepFit) -> Card:
    """Return the optima of each group with the law and the competing rules."""
    drawn = [(group, (panel,)) for group in drawn_groups(fit) if (panel := _panel(group)) is not None]
    if not drawn:
        return Card(
            key="optimal_lr",
            title=TITLE,
            finding="An LR against batch size needs two batch sizes with their optimum inside the LRs tried; no group "
            "has them.",
            status="absent",
        )
    rows: list[dict[str, Any]] = []
    for group in fit.groups:
        rows += [{"group": group.label, **row} for row in law_table_rows(group.finding.tables["laws"])]
    grouped = (Column(key="group", label="group"),) if len(fit.groups) > 1 else ()
    sentence = _sentence(fit)
    figure = Figure(
        key="law",
        alt=sentence,
        views=switched(drawn),
        caption=(
            "Bars are intervals of the slices. The rules start at the measured optimum of the smallest batch size. "
            f"Arrows mark optima that lie beyond the LRs tried.{left_out(fit)}"
        ),
        legend=(
            LegendEntry(mark="dot", label="measured optimum"),
            LegendEntry(mark="fit", label="laws, mixed by their weights, with their band"),
            *(LegendEntry(mark=role, label=meaning) for _, _, role, meaning in COMPETING),
        ),
        points={group.label: measured_optima(group.finding.data) for group, _ in drawn},
    )
    table = Table(
        key="laws",
        caption="Laws compared",
        columns=(*grouped, *LAW_COLUMNS),
        rows=tuple(rows),
        open=len(fit.groups) == 1,
    )
    rules = Table(
        key="rules",
        caption="Batch sizes at which each rule is not excluded",
        columns=(*grouped, *(Column(key=rule, label=label) for rule, label in _RULES)),
        rows=tuple(_rules(fit)),
        open=len(fit.groups) <= 40,
    )
    return Card(
        key="optimal_lr",
        title=TITLE,
        finding=sentence,
        facts=tuple(_held_out(fit)),
        figures=(figure,),
        tables=(*((rules,) if rules.rows else ()), *((table,) if rows else ())),
        method=METHOD,
    )


def _panel(group: GroupFit) -> Panel | None:
    data = group.finding.data
    rows = measured_optima(data)
    if sum(finite(row["best_lr"]) for row in rows) < 2:
        return None
    sizes = [float(row["batch_size"]) for row in rows]
    draw = partial(
        draw_law,
        rows=rows,
        curve=law_curve(data["law"], np.geomspace(min(sizes), max(sizes), 60)),
        anchor=anchor_of(rows),
        target=None,
        batch_label=data["batch_label"],
    )
    return Panel(draw=draw, title=group_label(group) if group.key else "", wide=(720, 360), narrow=(350, 320))


def _sentence(fit: SweepFit) -> str:
    if len(fit.groups) == 1:
        return fit.groups[0].finding.sentence
    named: dict[str, int] = {}
    for group in fit.groups:
        law = group.finding.data["law"]["law"]
        if law is not None:
            named[law] = named.get(law, 0) + 1
    if not named:
        return "No group has enough batch sizes to choose a law."
    told = [
        f"the {law.replace('_', ' ')} law in {number}" for law, number in sorted(named.items(), key=lambda p: -p[1])
    ]
    return f"Of {len(fit.groups)} groups, {listing(told)} describes the best LR against the batch size."


def _held_out(fit: SweepFit) -> list[Fact]:
    return [
        Fact(term="Held out", value=named(fit, group, text if isinstance(text, str) else text.text()))
        for group in fit.groups
        if (text := group.holdout) is not None
    ]


def _rules(fit: SweepFit) -> list[dict[str, Any]]:
    rows = []
    for group in fit.groups:
        ranges = group.finding.data["law"].get("rules") or ()
        if ranges:
            said = {
                one["rule"]: "none" if one["lo"] is None else f"{count(one['lo'])} to {count(one['hi'])}"
                for one in ranges
            }
            rows.append({"group": group.label, **said})
    return rows


def _range(rule: Mapping[str, Any]) -> str:
    return "none" if rule["lo"] is None else f"{count(rule['lo'])} to {count(rule['hi'])}"
