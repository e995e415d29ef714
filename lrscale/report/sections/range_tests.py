"""The ramps that bracket the LR, and the runs at fixed LR that confirm one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.context import ReportContext
from lrscale.report.range_plot import draw_fixed, draw_ramps, draw_rules, points
from lrscale.report.words import between, count, finite, plural, rate, short, with_interval

RULES = {
    "steepest": ("steepest descent", "largest fall of the loss per unit of log LR"),
    "valley": ("valley", "middle of the longest falling stretch"),
    "slide": ("slide", "left end of the last flat interval"),
    "minimum_over_ten": ("minimum / 10", "a tenth of the LR with the lowest loss"),
    "edge_over_five": ("edge / 5", "a fifth of the LR at which the loss rises above its start"),
}
METHOD = (
    "The LR rises by the same ratio at every step or rung (Smith 2015, arXiv:1506.01186). A ramp brackets the LR "
    "and does not rank LRs: its steepest point moves with its length, because the loss follows the sum of the LRs "
    "so far. So runs at fixed LR decide, from a coarse ladder over what the rules suggest: outward while the "
    "lowest is at an end, inward until two LRs lie on each side of it, then more seeds there; last, up or down "
    "from where the ramps became unstable until the edge lies between two neighbouring LRs. The slice A·LR^-p + "
    "B·LR^q + C through the runs gives the confirmed LR and its interval.\n\n"
    "Derived, and not measured: the one-cycle peak has the same mean as the confirmed LR (Schaipp et al. 2025, "
    "arXiv:2501.18965), at most the largest LR that trained, and starts at a 25th of it; the warm-up is 2 / (1 - "
    "beta2) steps (Ma and Yarats 2019, arXiv:1910.04209). Ramps have no warm-up, so theirs is the edge without "
    "one; a longer warm-up than that of the runs raises it further."
)
BATCH_COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="confirmed LR (95 %)", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="equivalent_lo", label="not told apart from", kind="rate"),
    Column(key="equivalent_hi", label="to", kind="rate"),
    Column(key="begins_to_fall", label="ramps fall from", kind="rate"),
    Column(key="unstable_at", label="ramps unstable at", kind="rate"),
    Column(key="trained_up_to", label="all runs trained up to", kind="rate"),
    Column(key="diverged_at", label="and not at", kind="rate"),
    Column(key="one_cycle_base", label="one cycle from", kind="rate"),
    Column(key="one_cycle_max", label="to", kind="rate"),
    Column(key="warmup_steps", label="warm-up steps", kind="count"),
    Column(key="runs", label="runs", kind="count"),
    Column(key="status", label="confirmation", kind="status"),
)
RULE_COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="rule", label="rule"),
    Column(key="lr", label="LR (over ramps)", kind="rate", lo="lo", hi="hi"),
    Column(key="factor", label="times the confirmed LR", kind="number"),
    Column(key="standing", label="against the runs"),
    Column(key="regret", label="costs, in loss (95 %)", kind="number", lo="regret_lo", hi="regret_hi"),
    Column(key="meaning", label="definition"),
)


@final
class RangeTestsSection(AbstractSection):
    """Loss along the ramps of each batch size, the runs that confirm an LR, and what each rule would suggest."""

    key: ClassVar[str] = "range_test"
    title: ClassVar[str] = "Where can the learning rate lie?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("range_test")
        if finding is None:
            return "No range test was run in this study (experiments.range_test)."
        if not _drawn(finding.data):
            return f"No range test can be drawn: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("range_test")
        assert finding is not None
        data, family = finding.data, _drawn(finding.data)
        figures = [_ramps(family, data, finding.sentence)]
        if any(_is_confirmed(member) for member in family):
            figures.append(_confirmations(family, context.monitor, finding.sentence))
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            facts=tuple(_facts(family[0])),
            figures=tuple(figures),
            tables=(
                Table(
                    key="batch_sizes",
                    caption="What the range test says at each batch size",
                    columns=BATCH_COLUMNS,
                    rows=finding.tables.get("batch_sizes", ()),
                    open=len(family) > 1,
                ),
                Table(
                    key="suggestions",
                    caption="What each rule suggests, and what that costs",
                    columns=RULE_COLUMNS,
                    rows=tuple(_rule_row(row) for row in finding.tables.get("rules", ())),
                ),
            ),
            checks=finding.checks,
            method=METHOD,
        )


def _drawn(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the members of the family that have a curve, the reference first."""
    return [
        member for member in data.get("family", ()) if any(points(curve)[0].size for curve in member.get("curves", ()))
    ]


def _is_confirmed(member: Mapping[str, Any]) -> bool:
    sure = member.get("confirmation")
    return bool(sure and sure.get("fit"))


def _by_batch(family: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(family, key=lambda member: int(member["batch_size"]))


def _ramps(family: Sequence[Mapping[str, Any]], data: Mapping[str, Any], sentence: str) -> Figure:
    monitor = str(data.get("monitor") or "train_loss")
    label = "training loss" if monitor == "train_loss" else short(monitor, 32)
    alone = len(family) == 1
    size, narrow = ((720, 300), (350, 280)) if alone else ((290, 235), None)
    seeds = len(family[0]["curves"])
    return Figure.single(
        "ramp",
        tuple(
            Panel(
                draw=partial(draw_ramps, member=member, label=label),
                title=f"batch {count(member['batch_size'])}",
                wide=size,
                narrow=narrow,
            )
            for member in _by_batch(family)
        ),
        alt=sentence,
        caption=(
            f"{plural(seeds, 'ramp')} of {count(data.get('steps'))} steps at each batch size. Smoothed over a fixed "
            "width in log LR, without lag; raw values behind keep the extremes of each bin."
        ),
        legend=(
            LegendEntry(mark="line", label="smoothed, one line a seed"),
            LegendEntry(mark="raw", label="raw"),
            LegendEntry(mark="cross", label="diverged"),
            LegendEntry(mark="band", label="bracket: from the first fall to the edge"),
        ),
        points={
            f"batch {member['batch_size']}": {"bracket": member["bracket"], "unstable_at": member["unstable_at"]}
            for member in family
        },
    )


def _confirmations(family: Sequence[Mapping[str, Any]], monitor: str, sentence: str) -> Figure:
    shown = [member for member in _by_batch(family) if _is_confirmed(member)]
    panels = []
    for member in shown:
        batch = f"batch {count(member['batch_size'])}"
        draw = partial(draw_fixed, member=member, monitor=monitor)
        panels.append(Panel(draw=draw, title=f"{batch}: runs at fixed LR"))
        rules = partial(draw_rules, member=member)
        panels.append(Panel(draw=rules, title=f"{batch}: what the rules suggest"))
    return Figure.single(
        "confirmation",
        tuple(panels),
        alt=sentence,
        caption=(
            "Left: every run, with the loss at its end; a triangle lies above the axis. The slice is fitted to runs "
            "near the lowest. Right: the suggestion of each rule, geometric mean and range over the ramps, and how "
            "many times the confirmed LR it is."
        ),
        legend=(
            LegendEntry(mark="dot", label="a run at fixed LR"),
            LegendEntry(mark="cross", label="diverged"),
            LegendEntry(mark="fit", label="fitted slice"),
            LegendEntry(mark="band", label="95 % intervals of the fit and of the confirmed LR"),
            LegendEntry(mark="bar", label="LRs that the runs do not tell apart"),
            LegendEntry(mark="edge", label="edge of stability"),
        ),
        points={
            f"batch {member['batch_size']}": {
                "runs": [[run["lr"], run["loss"], run["seed"]] for run in member["confirmation"]["runs"]],
                "suggestions": {rule: own["value"] for rule, own in member["suggestions"].items()},
            }
            for member in shown
        },
    )


def _facts(member: Mapping[str, Any]) -> list[Fact]:
    """Return the numbers of the reference batch size that people take away."""
    sure = member.get("confirmation") or {}
    interval, stable = sure.get("interval") or {}, sure.get("stable") or {}
    cycle, warmup = sure.get("one_cycle") or {}, sure.get("warmup") or {}
    facts = []
    if finite(sure.get("lr")):
        same = sure.get("equivalence")
        detail = f"not told apart: {between(*same)}" if same else ""
        value = with_interval(sure["lr"], interval.get("lo"), interval.get("hi"))
        facts.append(Fact(term="Confirmed LR", value=value, detail=detail, strong=True))
    if finite(stable.get("lo")):
        ends = f"not at {rate(stable['hi'])}" if finite(stable.get("hi")) else "every run trained"
        warm = f"{plural(int(stable['warmup_steps']), 'step')} of warm-up"
        ramp = f"; ramps, without warm-up: {rate(stable['ramp'])}" if finite(stable.get("ramp")) else ""
        facts.append(Fact(term="Trains up to", value=rate(stable["lo"]), detail=f"{ends}, {warm}{ramp}"))
    if cycle:
        bound = "; bounded by the edge" if cycle["limited_by_stability"] else ""
        facts.append(
            Fact(
                term="One cycle, base and peak",
                value=f"{rate(cycle['base'])} and {rate(cycle['max'])}",
                detail=f"derived{bound}",
            )
        )
    if warmup:
        examples = f" ({count(warmup['examples'])} examples)" if finite(warmup.get("examples")) else ""
        facts.append(
            Fact(
                term="Warm-up",
                value=f"{count(warmup['steps'])} steps{examples}",
                detail=f"derived: 2 / (1 - beta2), beta2 {warmup['beta2']:g}",
            )
        )
    return facts


def _rule_row(row: Mapping[str, Any]) -> dict[str, Any]:
    name, meaning = RULES.get(row["rule"], (short(row["rule"], 40).replace("_", " "), ""))
    return {**row, "rule": name, "meaning": meaning}
