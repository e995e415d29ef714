"""How much equal runs differ: the noise floor by batch size and LR, and what this study's seeds can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.batch_marks import BatchMarks
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import between, count, finite, percent, plural, rate, significant, with_interval
from lrscale.study.noise_rows import BATCHES, GROWTH, NEAR, RATES

BATCH_COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="runs", label="runs", kind="count"),
    Column(key="seeds", label="seeds", kind="count"),
    Column(key="sd", label="standard deviation (95 %)", kind="number", lo="lo", hi="hi"),
    Column(key="shift_sd", label="shift of a seed", kind="number"),
    Column(key="smallest", label="tells losses apart from", kind="number"),
    Column(key="halved_by", label="halved by seeds", kind="count"),
)
RATE_COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="LR", kind="rate"),
    Column(key="relative_lr", label="LR / best LR", kind="number"),
    Column(key="seeds", label="seeds", kind="count"),
    Column(key="loss", label="mean loss", kind="loss"),
    Column(key="sd", label="standard deviation (95 %)", kind="number", lo="lo", hi="hi"),
)
METHOD = (
    "Standard deviation of the final loss of runs with the same batch size and LR, pooled over LRs. The shift that the "
    "runs of a seed share at all LRs is taken out, since comparisons are paired by seed; its own standard deviation is "
    "in the table. For a batch size it is the noise of its fitted slice near the lowest losses, where replicates give "
    "that at least 4 degrees of freedom. Intervals are of chi-square and take the noise as normal; with two or three "
    "seeds they are wide.\n\n"
    "The smallest difference told is half the width of the 95 % t interval of the difference of two means over those "
    "seeds: smaller ones cannot be told from none, and a true difference of that size is found in about half of all "
    "studies. The number of seeds that halves it is for the same LRs, whose degrees of freedom grow with the seeds. "
    "Above against below the best LR: F interval of the ratio, batch sizes in units of their own noise."
)
_AIR = 8.0
"""Intervals are drawn up to this factor beyond the estimates: those of two seeds would press everything else flat."""


@final
class NoiseFloorSection(AbstractSection):
    """Standard deviation between seeds against batch size and LR, and the differences that stand out from it."""

    key: ClassVar[str] = "noise_floor"
    title: ClassVar[str] = "How much do equal runs differ?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("scaling")
        if finding is None:
            return "No learning rate was swept at a batch size in this study (experiments.scaling)."
        if not finding.tables.get(BATCHES):
            return "No trial of the sweep has a loss, or the noise was not looked at when it was analysed."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("scaling")
        assert finding is not None
        batches, rates = finding.tables[BATCHES], finding.tables.get(RATES) or ()
        known = [row for row in batches if row["sd"] is not None]
        if not known:
            return Card(
                key=self.key,
                title=self.title,
                status="cannot_tell",
                finding="How much equal runs differ cannot be told: no batch size and LR has two seeds that ended with "
                "a loss. It takes `--set experiments.scaling.seeds=3`.",
                method=METHOD,
            )
        sentence = _sentence(known, finding.data.get(GROWTH))
        return Card(
            key=self.key,
            title=self.title,
            finding=sentence,
            figures=_figures(batches, rates, sentence),
            tables=(
                Table(key=BATCHES, caption="Noise floor by batch size", columns=BATCH_COLUMNS, rows=tuple(batches)),
                Table(
                    key=RATES,
                    caption="Noise at every learning rate",
                    columns=RATE_COLUMNS,
                    rows=tuple(rates),
                    sortable=True,
                    open=False,
                ),
            ),
            method=METHOD,
        )


def _sentence(known: Sequence[Mapping[str, Any]], growth: Sequence[float] | None) -> str:
    first, last = known[0], known[-1]
    text = (
        f"From seed to seed the final loss of equal runs has a standard deviation of {_spread(first)} at batch "
        f"{count(first['batch_size'])}"
    )
    if last is not first:
        text += f" and {_spread(last)} at batch {count(last['batch_size'])}"
    text += f". At batch {count(last['batch_size'])}, {plural(last['seeds'], 'seed')} tell"
    text += "s" if last["seeds"] == 1 else ""
    text += f" losses apart that differ by {significant(last['smallest'])} or more"
    if last["share"] is not None:
        text += f" ({percent(last['share'])} of the lowest)"
    text += f"; {count(last['halved_by'])} seeds would halve that." if last["halved_by"] is not None else "."
    if growth is not None:
        ratio, lo, hi = growth
        grows = "" if lo > 1 or hi < 1 else ", which does not tell whether noise changes there"
        text += (
            f" Within a factor of {NEAR:g} of the best LR, runs above it differ {significant(ratio)} times as much as "
            f"those up to it (95 % {between(lo, hi)}){grows}."
        )
    return text


def _spread(row: Mapping[str, Any]) -> str:
    return with_interval(row["sd"], row["lo"], row["hi"]).replace("(", "(95 % ", 1)


def _figures(
    batches: Sequence[Mapping[str, Any]], rates: Sequence[Mapping[str, Any]], sentence: str
) -> tuple[Figure, ...]:
    sizes = [row for row in batches if row["sd"]]
    placed = [row for row in rates if row["sd"] and row["relative_lr"] is not None]
    if not sizes:
        return ()
    marks = BatchMarks.of(row["batch_size"] for row in batches)
    panels = [
        Panel(
            draw=partial(_draw, rows=sizes, x="batch_size", name="global batch size (examples)", marks=marks),
            title="By batch size",
        )
    ]
    if placed:
        panels.append(
            Panel(
                draw=partial(_draw, rows=placed, x="relative_lr", name="LR / best LR of its batch size", marks=marks),
                title="By learning rate",
            )
        )
    return (
        Figure.single(
            "noise",
            tuple(panels),
            alt=sentence,
            caption="Standard deviation of the final loss between seeds with its 95 % interval, cut where it leaves "
            "the axes. Colour and mark are the batch size.",
            points={"by_batch": [dict(row) for row in batches], "by_lr": [dict(row) for row in rates]},
        ),
    )


def _draw(canvas: Canvas, rows: Sequence[Mapping[str, Any]], x: str, name: str, marks: BatchMarks) -> None:
    axes = canvas.axes
    by_batch = x == "batch_size"
    places, spreads = [float(row[x]) for row in rows], [float(row["sd"]) for row in rows]
    held = [min(max(row[end], min(spreads) / _AIR), max(spreads) * _AIR) for row in rows for end in ("lo", "hi")]
    lowest, highest = padded([*spreads, *held], log=True)
    canvas.margins(left=58, right=14, top=10 if by_batch else 26)
    canvas.scale("x", *padded(places, log=True, share=0.08), log=True, label_width=38, at=places if by_batch else None)
    canvas.scale("y", lowest, highest, log=True)
    canvas.axis_labels(name, "standard deviation")
    if not by_batch:
        axes.axvline(1.0, color=color("axis"), lw=1, ls=(0, (3, 3)))
        marks.draw_key(canvas)
    for row in rows:
        role, marker = marks.of_size(row["batch_size"])
        ends = [max(row["lo"], lowest), min(row["hi"], highest)]
        axes.plot([row[x]] * 2, ends, color=color(role), lw=1.4 if by_batch else 0.8, clip_on=False)
        dot = axes.scatter([row[x]], [row["sd"]], s=26, marker=marker, color=color(role), zorder=4, clip_on=False)
        lr = f", LR {rate(row['lr'])}" if finite(row.get("lr")) else ""
        canvas.hover(
            dot,
            [f"batch {count(row['batch_size'])}{lr}: {_spread(row)}"],
        )
