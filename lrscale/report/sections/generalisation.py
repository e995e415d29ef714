"""Does what is learned carry over: validation loss above training loss, against LR and batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import between, count, finite, plural, rate, significant
from lrscale.study.gap_rows import KEY

COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="LR", kind="rate"),
    Column(key="seeds", label="seeds", kind="count"),
    Column(key="train_loss", label="training loss", kind="loss"),
    Column(key="loss", label="validation loss", kind="loss"),
    Column(key="gap", label="gap (95 %)", kind="number", lo="lo", hi="hi"),
    Column(key="place", label="place"),
)


@final
class GeneralisationSection(AbstractSection):
    """The gap between validation and training loss at the end of the trials of the sweep."""

    key: ClassVar[str] = "generalisation"
    title: ClassVar[str] = "Does what is learned carry over?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("scaling")
        if finding is None:
            return "No learning rate was swept at a batch size in this study (experiments.scaling)."
        if not finding.tables.get(KEY):
            return "No trial of the sweep has both a validation loss and a training loss at its end."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("scaling")
        assert finding is not None
        rows = finding.tables[KEY]
        sentence = _sentence(rows)
        sizes = list(dict.fromkeys(int(row["batch_size"]) for row in rows))
        lrs = [float(row["lr"]) for row in rows]
        gaps = [float(row[key]) for row in rows for key in ("gap", "lo", "hi") if finite(row.get(key))]
        # Intervals of two seeds can be wide enough to press everything else flat.
        means = [float(row["gap"]) for row in rows if finite(row["gap"])]
        spread = max(means) - min(*means, 0.0) or 1.0
        held = [min(max(gap, min(means) - spread), max(means) + spread) for gap in gaps]
        limits = (padded(lrs, log=True, share=0.08), padded([0.0, *held], log=False))
        panels = tuple(
            Panel(
                draw=partial(_draw, rows=[row for row in rows if row["batch_size"] == size], limits=limits),
                title=f"batch {count(size)}",
            )
            for size in sizes
        )
        return Card(
            key=self.key,
            title=self.title,
            finding=sentence,
            figures=(
                Figure.single(
                    KEY,
                    panels,
                    alt=sentence,
                    caption="Validation loss minus training loss at the end, mean over seeds with its 95 % interval; "
                    "the ring marks the LR nearest to the best one. The axes are shared.",
                    points={KEY: [dict(row) for row in rows]},
                ),
            ),
            tables=(
                Table(
                    key=KEY,
                    caption="Every learning rate",
                    columns=COLUMNS,
                    rows=tuple({**row, "place": "nearest to the best" if row["nearest"] else ""} for row in rows),
                    sortable=True,
                    open=False,
                ),
            ),
            method=(
                "The training loss is the mean over the last tenth of the steps, as the module computes it in "
                "training: with dropout, augmentation or label smoothing it is not on the scale of the validation "
                "loss, and a negative gap is their doing. It is also the mean of what the model was while it still "
                "learned, where the validation loss is of the model at the end. Intervals are t intervals over seeds."
            ),
        )


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    best = [row for row in rows if row["nearest"]]
    if not best:
        row = min(rows, key=lambda row: float(row["loss"]))
        return (
            f"At batch {count(row['batch_size'])} and LR {rate(row['lr'])}, where the validation loss is lowest, it "
            f"ends {_above(row)} the training loss."
        )
    first, last = best[0], best[-1]
    text = (
        f"At batch {count(first['batch_size'])} and LR {rate(first['lr'])}, the nearest to the best, the validation "
        f"loss ends {_above(first)} the training loss"
    )
    if last is first:
        return f"{text}."
    return f"{text}; at batch {count(last['batch_size'])} and LR {rate(last['lr'])} it ends {_above(last)} it."


def _above(row: Mapping[str, Any]) -> str:
    """Return how far above, or below, with the interval turned the same way."""
    gap, seeds = float(row["gap"]), plural(int(row["seeds"]), "seed")
    where = "above" if gap >= 0 else "below"
    if not finite(row.get("lo")) or not finite(row.get("hi")):
        return f"{significant(abs(gap))} ({seeds}) {where}"
    lo, hi = sorted(float(row[key]) * (1 if gap >= 0 else -1) for key in ("lo", "hi"))
    return f"{significant(abs(gap))} (95 % {between(lo, hi)}, {seeds}) {where}"


def _draw(
    canvas: Canvas, rows: Sequence[Mapping[str, Any]], limits: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    axes = canvas.axes
    canvas.margins(left=52, right=14)
    canvas.scale("x", *limits[0], log=True, label_width=40)
    canvas.scale("y", *limits[1], log=False, label_width=44)
    canvas.axis_labels("peak LR", "gap")
    axes.axhline(0.0, color=color("axis"), lw=1, ls=(0, (3, 3)))
    axes.plot([row["lr"] for row in rows], [row["gap"] for row in rows], color=color("accent"), lw=1.2, alpha=0.6)
    lowest, highest = limits[1]
    for row in rows:
        if finite(row.get("lo")) and finite(row.get("hi")):
            ends = [max(float(row["lo"]), lowest), min(float(row["hi"]), highest)]
            axes.plot([row["lr"]] * 2, ends, color=color("accent"), lw=1.4)
        dot = axes.scatter([row["lr"]], [row["gap"]], s=26, color=color("accent"), zorder=4)
        if row["nearest"]:
            axes.scatter([row["lr"]], [row["gap"]], s=90, facecolors="none", edgecolors=color("ink"), zorder=5)
        canvas.hover(dot, [f"LR {rate(row['lr'])}, {plural(int(row['seeds']), 'seed')}: {significant(row['gap'])}"])
