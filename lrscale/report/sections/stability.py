"""How near the LRs are to the edge of stability: divergence, spikes, and margins where they were measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.stability import SharpnessCourse
from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, Panel, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import LRScale, color
from lrscale.report.stability_data import margins_of, spikes_of
from lrscale.report.words import count, listing, plural, rate, significant

if TYPE_CHECKING:
    from lrscale.store.view import Trial

COLUMNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="peak LR", kind="rate"),
    Column(key="trials", label="trials", kind="count"),
    Column(key="diverged", label="diverged", kind="count"),
    Column(key="spiked", label="with spikes", kind="count"),
    Column(key="spikes", label="spikes", kind="count"),
    Column(key="lasting", label="not back", kind="count"),
    Column(key="largest", label="highest (robust sd)", kind="number"),
    Column(key="margin", label="smallest margin", kind="number"),
)
_MOST_OPEN = 12
"""Rows of the table that is not folded away."""
MOST_PANELS = 6
"""Batch sizes in the figure; the others stand in the table."""


@final
class StabilitySection(AbstractSection):
    """Divergence and spikes by batch size and LR; the course of the margin."""

    key: ClassVar[str] = "stability"
    title: ClassVar[str] = "How near is the edge of stability?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        if not any(spikes_of(trial) or margins_of(trial) for trial in _fixed(context)):
            return "No trial at a fixed peak LR was watched for spikes (instruments.stability)."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        trials = _fixed(context)
        rows = _rows(trials)
        ramps = [
            course.edge_lr
            for trial in context.trials_where(lambda trial: trial.spec.schedule.name == "ramp")
            if (course := margins_of(trial)) is not None and course.edge_lr is not None
        ]
        facts = []
        if ramps:
            facts.append(
                Fact(
                    term="On ramps",
                    value=f"the margin reached 1 at LR {listing([rate(lr) for lr in sorted(ramps)])}",
                )
            )
        shown = [row for row in rows if row["margin"] is None]
        columns = tuple(column for column in COLUMNS if column.key != "margin" or len(shown) < len(rows))
        return Card(
            key=self.key,
            title=self.title,
            finding=_sentence(rows),
            facts=tuple(facts),
            figures=_figures(context, trials),
            tables=(
                Table(
                    key="stability",
                    caption="By batch size and LR",
                    columns=columns,
                    rows=tuple(rows),
                    open=len(rows) <= _MOST_OPEN,
                ),
            ),
            method=(
                "A spike is a training loss more than 6 robust standard deviations above the median of the losses "
                "before it, with a gradient norm more than 4 above its own; it is not back when it stays above 2 "
                "median absolute deviations for half a window. Spikes near the edge are a result and are not trimmed. "
                "The margin is the multiple of the optimizer's own update that would just not lower the loss of its "
                "batch (critical sharpness, arXiv:2601.16979); below 1 the update raised it. Updates that are uphill "
                "on their batch at every multiple, as momentum is on small batches, have no margin and are left out. "
                "For gradient descent the edge is where the curvature reaches 2 / LR (Cohen et al. 2021, "
                "arXiv:2103.00065)."
            ),
        )


def _fixed(context: ReportContext) -> tuple[Trial, ...]:
    return context.trials_where(lambda trial: trial.spec.schedule.name != "ramp" and trial.spec.layout is None)


def _rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    by_setting: defaultdict[tuple[int, float], list[Trial]] = defaultdict(list)
    for trial in trials:
        by_setting[trial.spec.global_batch_size, trial.spec.peak_lr].append(trial)
    rows = []
    for (size, lr), members in sorted(by_setting.items()):
        found = [one for trial in members if (one := spikes_of(trial)) is not None]
        heights = [one.largest.height for one in found if one.largest is not None]
        margins = [
            course.smallest.margin
            for trial in members
            if (course := margins_of(trial)) is not None and course.smallest is not None
        ]
        rows.append(
            {
                "batch_size": size,
                "lr": lr,
                "trials": len(members),
                "diverged": sum(trial.record.status == "diverged" for trial in members),
                "spiked": sum(bool(one.spikes) for one in found),
                "spikes": sum(len(one.spikes) for one in found),
                "lasting": sum(one.lasting for one in found),
                "largest": max(heights, default=None),
                "margin": min(margins, default=None),
            }
        )
    return rows


def _sentence(rows: Sequence[dict[str, Any]]) -> str:
    parts = []
    for size in sorted({row["batch_size"] for row in rows}):
        own = [row for row in rows if row["batch_size"] == size]
        spiky = min((row["lr"] for row in own if row["spikes"]), default=None)
        lost = min((row["lr"] for row in own if row["diverged"]), default=None)
        told = []
        if spiky is not None:
            told.append(f"the loss spikes from LR {rate(spiky)} on")
        if lost is not None:
            told.append(f"{'diverges' if told else 'the loss diverges'} from {'' if told else 'LR '}{rate(lost)} on")
        if told:
            parts.append(f"at batch {count(size)} {' and '.join(told)}")
    if not parts:
        sentence = f"None of {plural(sum(row['trials'] for row in rows), 'trial')} diverged or has a spike of its loss."
    else:
        text = "; ".join(parts)
        sentence = f"{text[:1].upper()}{text[1:]}."
    known = [row for row in rows if row["margin"] is not None]
    if known:
        least = min(known, key=lambda row: float(row["margin"]))
        sentence += (
            f" The smallest margin is {significant(least['margin'])} times the update "
            f"(LR {rate(least['lr'])}, batch {count(least['batch_size'])})."
        )
    return sentence


def _figures(context: ReportContext, trials: Sequence[Trial]) -> tuple[Figure, ...]:
    by_batch: defaultdict[int, list[tuple[Trial, SharpnessCourse]]] = defaultdict(list)
    for trial in trials:
        course = margins_of(trial)
        if course is not None and course.measured:
            by_batch[trial.spec.global_batch_size].append((trial, course))
    if not by_batch:
        return ()
    every = [point.margin for some in by_batch.values() for _, course in some for point in course.measured]
    limits = padded([*every, 1.0], log=True, share=0.05)
    panels = tuple(
        Panel(
            draw=partial(_draw_margins, courses=by_batch[size], limits=limits, scale=context.lr_scale),
            title=f"batch {count(size)}",
        )
        for size in sorted(by_batch)[:MOST_PANELS]
    )
    return (
        Figure.single(
            "margins",
            panels,
            alt="Margin to the edge of stability over training; at 1 the update would raise the loss of its own batch.",
            caption="Margin over training, one line a trial, coloured by peak LR. At the dashed line the update would "
            "raise the loss of its own batch.",
            points={
                trial.trial_id: [[point.step, point.margin] for point in course.measured]
                for some in by_batch.values()
                for trial, course in some
            },
        ),
    )


def _draw_margins(
    canvas: Canvas,
    courses: Sequence[tuple[Trial, SharpnessCourse]],
    limits: tuple[float, float],
    scale: LRScale,
) -> None:
    canvas.margins(left=46, right=14)
    canvas.scale("x", 0.0, max(point.step for _, course in courses for point in course.measured), log=False)
    canvas.scale("y", *limits, log=True)
    canvas.axis_labels("steps", "margin")
    canvas.axes.axhline(1.0, color=color("bad"), lw=1, dashes=(4, 3))
    for trial, course in sorted(courses, key=lambda pair: pair[0].spec.peak_lr):
        (line,) = canvas.axes.plot(
            [point.step for point in course.measured],
            [point.margin for point in course.measured],
            color=scale.color(trial.spec.peak_lr),
            lw=1.3,
            marker="o",
            markersize=2.2,
        )
        canvas.hover(line, f"LR {rate(trial.spec.peak_lr)}, seed {trial.spec.seed}: {course.reason}")
