"""The course of a search over LR and batch size: trials in their order, expected loss, and the named setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.search_course import course_figure, crosses, dots, rings, stopped_words
from lrscale.report.words import finite, loss, percent, rate, significant
from lrscale.study.finding import Finding, Quantity

LEVELS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Contours, as relative excess of the expected loss over its lowest; half a decade apart, to be told apart both in the
basin, where losses differ by tenths of a percent, and on its walls."""
LEFT, RIGHT = 54, 20
"""Room beside the axes of the map, in pixels."""
LABEL_GAP = 2.0
"""Pixels between the numbers of two trials; where there are fewer, the earlier one has its number."""
TRIALS = (
    Column(key="order", label="no.", kind="count"),
    Column(key="phase", label="phase"),
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="LR", kind="rate"),
    Column(key="seed", label="seed", kind="count"),
    Column(key="loss", label="loss", kind="loss"),
    Column(key="examples", label="examples", kind="count"),
    Column(key="status", label="status", kind="status"),
)
STOPPED = (
    Column(key="rule", label="rule"),
    Column(key="place", label="share of the horizon"),
    Column(key="stopped", label="trials stopped there", kind="count"),
)
CONFIRMATION = (
    Column(key="setting", label="setting"),
    Column(key="predicted", label="predicted loss", kind="loss", lo="predicted_lo", hi="predicted_hi"),
    Column(key="confirmed", label="mean of fresh seeds, lowest and highest", kind="loss", lo="lowest", hi="highest"),
    Column(key="seeds", label="fresh seeds", kind="count"),
    Column(key="diverged", label="diverged", kind="count"),
)

SEGMENTS = (
    Column(key="from", label="from example", kind="count"),
    Column(key="examples", label="examples", kind="count"),
    Column(key="lr", label="LR", kind="rate"),
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="loss", label="loss at its end", kind="loss"),
)
REPLAYS = (
    Column(key="seed", label="seed", kind="count"),
    Column(key="loss", label="loss", kind="loss"),
    Column(key="status", label="status", kind="status"),
)


@final
class SearchSection(AbstractSection):
    """The map of a search."""

    key: ClassVar[str] = "search"
    title: ClassVar[str] = "Which setting is best? A search in few trials"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("search")
        if finding is None:
            return "The recipe asks for no search (experiments.search)."
        return None if finding.tables.get("trials") or finding.tables.get("segments") else finding.sentence

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("search")
        assert finding is not None
        if finding.tables.get("segments"):
            return self._evolved(finding)
        rows = finding.tables["trials"]
        confirmation = [
            {**row, "setting": f"batch {row['batch_size']}, LR {rate(row['lr'])}{', named' if row['named'] else ''}"}
            for row in finding.tables.get("confirmation", ())
        ]
        tables = [Table(key="trials", caption="Trials in their order", columns=TRIALS, rows=tuple(rows))]
        if confirmation:
            caption = "Confirmation: the named setting and its neighbours with seeds that the search has not seen"
            tables.insert(0, Table(key="confirmation", caption=caption, columns=CONFIRMATION, rows=tuple(confirmation)))
        stopped = finding.tables.get("stopped", ())
        if stopped:
            places = tuple(
                {**row, "rule": str(row["rule"]).replace("_", " "), "place": percent(row["share"])} for row in stopped
            )
            tables.insert(-1, Table(key="stopped", caption="Trials stopped early", columns=STOPPED, rows=places))
        course = course_figure(finding)
        engine = finding.data.get("engine", {})
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="ok" if finding.status == "ok" else "cannot_tell",
            facts=tuple(_facts(finding)),
            figures=(search_map(finding), *(() if course is None else (course,))),
            tables=tuple(tables),
            notes=tuple(check.sentence for check in finding.checks if check.status == "INFO"),
            checks=tuple(check for check in finding.checks if check.status in ("WARNING", "FAIL")),
            method=(
                f"{engine.get('method', '')}\n\n"
                "The confirmation has other seeds, the same for each of its settings. What a seed shifts all of them "
                "by is taken out before they are told to the planner; prediction and confirmation are compared with "
                "the spread between seeds counted in."
            ),
        )

    def _evolved(self, finding: Finding) -> Card:
        """Return the card of a schedule that a population evolved."""
        replays = finding.tables.get("replays", ())
        tables = [Table(key="segments", caption="The best member", columns=SEGMENTS, rows=finding.tables["segments"])]
        if replays:
            caption = "The same schedule from a fresh start"
            tables.append(Table(key="replays", caption=caption, columns=REPLAYS, rows=tuple(replays)))
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="ok",
            tables=tuple(tables),
            notes=tuple(check.sentence for check in finding.checks if check.status == "INFO"),
            checks=tuple(check for check in finding.checks if check.status in ("WARNING", "FAIL")),
            method=finding.data["engine"]["method"],
        )


def _facts(finding: Finding) -> list[Fact]:
    numbers = finding.numbers
    facts = []
    for key, term in (("predicted_loss", "Predicted loss"), ("confirmed_loss", "Confirmed loss")):
        known = numbers.get(key)
        if known is not None:
            facts.append(Fact(term=term, value=loss(known.value), detail=_ends(known)))
    if "expected_regret" in numbers:
        facts.append(Fact(term="Expected regret", value=significant(numbers["expected_regret"].value)))
    if "noise_sd" in numbers:
        value = significant(numbers["noise_sd"].value)
        facts.append(Fact(term="Noise", value=value, detail="Standard deviation of a run at equal setting."))
    stopping = finding.data.get("stopping")
    if stopping is not None:
        value, saved = stopped_words(stopping)
        facts.append(Fact(term="Stopped early", value=value, detail=saved))
    title = finding.data.get("engine", {}).get("title")
    if title is not None:
        facts.append(Fact(term="Planned by", value=title))
    return facts


def _ends(quantity: Quantity) -> str:
    return "" if quantity.lo is None or quantity.hi is None else f"95 % {loss(quantity.lo)} to {loss(quantity.hi)}"


def search_map(finding: Finding, wide: tuple[int, int] = (600, 330)) -> Figure:
    """Return the map of a search that has trials."""
    data, rows = finding.data, finding.tables["trials"]
    legend = [
        LegendEntry(mark="dot", label="a trial, numbered in its order"),
        LegendEntry(mark="cross", label="gave no loss: diverged or failed"),
    ]
    if any(row["status"] == "stopped" for row in rows):
        legend.append(LegendEntry(mark="ring", label="stopped early"))
    caption = "Trials of the same setting share a mark, which has the number of the first where there is room for it."
    if data.get("map") is not None:
        caption += (
            " Lines join settings of equal expected loss: "
            + ", ".join(f"{100 * level:g} %" for level in LEVELS)
            + " above the lowest expected."
        )
    if data.get("named") is not None:
        legend.append(LegendEntry(mark="fit", label="named setting, 95 % interval of its LR"))
    return Figure.single(
        "map",
        (Panel(draw=partial(_draw, data=data, rows=rows), wide=wide, narrow=(330, 300)),),
        alt=finding.sentence,
        caption=caption,
        legend=tuple(legend),
        points={"trials": [[row["lr"], row["batch_size"], row["loss"]] for row in rows]},
    )


def _draw(canvas: Canvas, data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    canvas.margins(left=LEFT, right=RIGHT)
    named = data.get("named")
    sizes = [float(size) for size in data["batch_sizes"]]
    ends = [float(row["lr"]) for row in rows] + ([] if named is None else [named["lr_lo"], named["lr_hi"]])
    lo, hi = padded(ends, log=True, share=0.12)
    canvas.scale("x", lo, hi, log=True, label_width=44)
    below, above = padded(sizes, log=True, share=0.18)
    canvas.scale("y", below, above, log=True, at=sizes)
    canvas.axis_labels("peak LR", "global batch size")
    _contours(canvas, data)
    known = [row["loss"] for row in rows if finite(row["loss"])]
    labelled: dict[int, list[float]] = {}
    for setting, own in _by_setting(rows).items():
        losses = [row["loss"] for row in own if finite(row["loss"])]
        texts = ", ".join(loss(value) for value in losses) or str(own[0]["status"])
        stopped = any(row["status"] == "stopped" for row in own)
        draw = dots if losses else rings if stopped else crosses
        dot = draw(canvas, [setting[0]], [setting[1]])
        canvas.hover(dot, f"no. {own[0]['order']}: LR {rate(setting[0])}, batch {setting[1]}: {texts}")
        number = str(own[0]["order"])
        place = math.log(setting[0] / lo) / math.log(hi / lo) * (canvas.width - LEFT - RIGHT)
        room = text_width(number) + LABEL_GAP
        if all(abs(place - other) >= room for other in labelled.setdefault(setting[1], [])):
            labelled[setting[1]].append(place)
            canvas.label(setting[0], setting[1], number, dx=0, dy=11, align="center", role="muted")
    if named is not None:
        size = named["batch_size"]
        canvas.axes.plot([named["lr_lo"], named["lr_hi"]], [size] * 2, color=color("accent"), lw=2.4, zorder=5)
        dot = canvas.axes.scatter([named["lr"]], [size], s=64, marker="D", color=color("accent"), zorder=6)
        lowest = f"; lowest loss of all trials {loss(min(known))}" if known else ""
        canvas.hover(dot, f"named: LR {rate(named['lr'])}, batch {size:g}{lowest}")


def _by_setting(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[float, int], list[Mapping[str, Any]]]:
    found: dict[tuple[float, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((float(row["lr"]), int(row["batch_size"])), []).append(row)
    return found


def _contours(canvas: Canvas, data: Mapping[str, Any]) -> None:
    expected = data.get("map")
    if expected is None or len(expected) < 2 or len(expected[0]) < 2:
        return
    surface = np.array([[math.nan if value is None else value for value in row] for row in expected])
    lowest = float(np.nanmin(surface))
    if lowest == 0:
        return
    levels = [lowest + abs(lowest) * level for level in LEVELS]
    canvas.axes.contour(
        data["learning_rates"],
        [float(size) for size in data["batch_sizes"]],
        np.ma.masked_invalid(surface),
        levels=levels,
        colors=color("axis"),
        linewidths=0.9,
        zorder=1,
    )
