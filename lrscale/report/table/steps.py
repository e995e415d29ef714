"""The critical batch size of each group of a table of steps to a target, and what each batch size costs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, Column, Fact, Figure, Panel, Table
from lrscale.report.steps_plot import STEPS_LEGEND, draw_steps
from lrscale.report.table.groups import MOST_DRAWN, group_label, switched
from lrscale.report.words import plural, with_interval

if TYPE_CHECKING:
    from lrscale.laws.separable_fit import Estimate
    from lrscale.sweep import StepsGroup, StepsTableFit

_ESTIMATES = (
    ("critical_batch", "critical batch", "twice the least steps and twice the least data (McCandlish et al. 2018)"),
    ("critical_batch_20", "critical batch, 20 %", "20 % more steps than a fall as 1 / batch (Zhang et al. 2024)"),
    ("S_min", "fewest steps", "with a batch of any size"),
    ("E_min", "least data", "with any number of steps"),
    ("gamma", "exponent of the batch", "1 for the hyperbola: a test of its form"),
)


def critical_batch_card(fit: StepsTableFit) -> Card:
    """Return steps against batch size with the critical batch size, group by group."""
    panels = [
        (
            group,
            (
                Panel(
                    draw=partial(draw_steps, fit=group.fit, batch_label=_batch_label(fit)),
                    title=group_label(group) if group.key else "",
                    wide=(720, 360),
                    narrow=(350, 320),
                ),
            ),
        )
        for group in fit.groups[:MOST_DRAWN]
        if group.fit.law.observed
    ]
    sentence = _sentence(fit)
    rows = [_row(group, *one) for group in fit.groups for one in _ESTIMATES if group.fit.law.draws]
    figure = Figure(
        key="steps",
        alt=sentence,
        views=switched(panels),
        caption="Both axes are logarithmic. Left of the band steps fall as 1 / batch for the same data; right of it "
        "a larger batch saves few steps.",
        legend=STEPS_LEGEND,
        points={
            group.label: [list(group.fit.law.inputs["batch"]), list(group.fit.law.observed)] for group, _ in panels
        },
    )
    return Card(
        key="critical_batch",
        title="How big a batch is worth it?",
        finding=sentence,
        status="ok" if fit.ok else "cannot_tell",
        figures=(figure,) if panels else (),
        tables=(
            Table(
                key="estimates",
                caption="Estimates",
                columns=(
                    *((Column(key="group", label="group"),) if len(fit.groups) > 1 else ()),
                    Column(key="name", label="quantity"),
                    Column(key="value", label="value", kind="number", lo="lo", hi="hi"),
                    Column(key="unit", label="unit"),
                    Column(key="meaning", label="meaning"),
                ),
                rows=tuple(rows),
            ),
        )
        if rows
        else (),
        notes=(*fit.warnings, *(f"{group_label(group)}: {note}" for group in fit.groups for note in _notes(group))),
    )


def costs_card(fit: StepsTableFit) -> Card:
    """Return the extra steps and the extra data of each batch size."""
    rows: list[dict[str, Any]] = []
    for group in fit.groups:
        for one in group.fit.trade_offs:
            rows.append(
                {
                    "group": group.label,
                    "batch": one.batch_size,
                    **_ratio("steps", one.extra_steps),
                    **_ratio("data", one.extra_examples),
                    "fitted": one.steps.value,
                }
            )
    if not rows:
        return Card(key="costs", title="What does each batch size cost?", finding="No law was fitted.", status="absent")
    return Card(
        key="costs",
        title="What does each batch size cost?",
        finding="Steps beyond the fewest, and data beyond the least, as multiples of them, at each measured batch "
        "size. At the critical batch size both are 1.",
        tables=(
            Table(
                key="costs",
                caption="Cost by batch size",
                columns=(
                    *((Column(key="group", label="group"),) if len(fit.groups) > 1 else ()),
                    Column(key="batch", label=_batch_label(fit), kind="count"),
                    Column(key="fitted", label="steps", kind="number"),
                    Column(key="steps", label="extra steps / fewest", kind="number", lo="steps_lo", hi="steps_hi"),
                    Column(key="data", label="extra data / least", kind="number", lo="data_lo", hi="data_hi"),
                ),
                rows=tuple(rows),
                sortable=True,
            ),
        ),
    )


def steps_methods_card(fit: StepsTableFit) -> Card:
    """Return short texts on what was computed and whose method it is."""
    return Card(
        key="methods",
        title="Methods",
        finding="Every number above comes from the runs of the table, by the methods below.",
        facts=(
            Fact(
                term="Hyperbola",
                value="steps = S_min + E_min / batch (McCandlish et al. 2018, arXiv:1812.06162), fitted on log steps; "
                "on the raw scale the smallest batch sizes decide alone. Runs that did not reach the target are "
                "one-sided terms.",
            ),
            Fact(
                term="Critical batch",
                value="E_min / S_min. By the 20 % definition (Zhang et al. 2024, arXiv:2410.21676) it is "
                "0.2 E_min / S_min + 1.2 times a reference batch.",
            ),
            Fact(term="Intervals", value=f"{100 * fit.confidence:g} %, from the profile likelihood."),
        ),
    )


def _sentence(fit: StepsTableFit) -> str:
    if len(fit.groups) == 1:
        reason = fit.groups[0].fit.reason
        return f"{reason[:1].upper()}{reason[1:]}."
    known = [group for group in fit.groups if group.ok]
    told = f"{len(known)} of {plural(len(fit.groups), 'group')} have a critical batch size with both ends known"
    if not known:
        return f"{told}."
    named = []
    for group in known[:6]:
        one = group.fit.estimate("critical_batch")
        lo, hi = _ends(one)
        named.append(f"{with_interval(one.value, lo, hi, 3)} for {group_label(group)}")
    return f"{told}: {'; '.join(named)}."


def _batch_label(fit: StepsTableFit) -> str:
    return "batch" if fit.source.batch_unit is None else f"batch ({fit.source.batch_unit})"


def _notes(group: StepsGroup) -> tuple[str, ...]:
    return (*group.notes, *group.fit.law.notes)


def _row(group: StepsGroup, key: str, name: str, meaning: str) -> dict[str, Any]:
    found = next((one for one in (*group.fit.law.estimates, *group.fit.law.derived) if one.name == key), None)
    lo, hi = (None, None) if found is None else _ends(found)
    return {
        "group": group.label,
        "name": name,
        "value": None if found is None else found.value,
        "lo": lo,
        "hi": hi,
        "unit": "" if found is None else found.unit,
        "meaning": meaning,
    }


def _ends(one: Estimate) -> tuple[float | None, float | None]:
    return (None, None) if one.interval is None else (one.interval.lo, one.interval.hi)


def _ratio(key: str, one: Estimate) -> dict[str, float | None]:
    lo, hi = _ends(one)
    return {key: one.value, f"{key}_lo": lo, f"{key}_hi": hi}
