"""Does it train: loss against steps, examples and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Figure, FigureView, LegendEntry, Panel
from lrscale.report.context import ReportContext
from lrscale.report.explorer import explorer_data
from lrscale.report.stability_data import spikes_of
from lrscale.report.thin import SMOOTHING_WINDOW
from lrscale.report.trajectory_plot import (
    AXIS_LABELS,
    RAW_BINS,
    Against,
    LossName,
    TrajectoryLimits,
    TrajectoryLine,
    draw_trajectories,
    loss_ceiling,
    trajectory_lines,
)
from lrscale.report.words import count, loss, percent, plural, rate, short
from lrscale.study.specs import COORDINATES

if TYPE_CHECKING:
    from lrscale.store.view import Trial

MANY_TRIALS = 200
"""Trials beyond which the figures are drawn against steps alone; the other axes are in the interactive view."""
MOST_PANELS = 8
"""Panels in one figure; what is beyond stands in the table of trials."""

_VIEW_NAMES: dict[Against, str] = {"step": "steps", "examples": "examples", "seconds": "time"}


@final
class TrajectoriesSection(AbstractSection):
    """Every run, coloured by LR in order, line style by status, raw behind smoothed."""

    key: ClassVar[str] = "trajectories"
    title: ClassVar[str] = "Does it train?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        if not _compared(context):
            return "No trial at a fixed peak LR has finished yet, so there is no trajectory to show."
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        trials = _compared(context)
        figures = []
        for key, label, groups in _groups(context, trials):
            figures.extend(_figures(context, key, label, groups))
        notes = () if figures else ("The trials left no trajectory with a finite loss.",)
        return Card(
            key=self.key,
            title=self.title,
            finding=_sentence(trials),
            figures=tuple(figures),
            runs=explorer_data(context, trials, loss_ceiling(context, trials)),
            notes=notes,
            method=(
                "The first figure holds every trial: what is pointed at is named, a click shows the trial's setting, "
                "and dragging zooms. Its training losses are means of equal parts of a run with their lowest and "
                "highest values, so that no spike is lost; its validation losses are all there. In the others smoothed "
                f"lines are means over a centred window of {percent(SMOOTHING_WINDOW)} of the steps, narrower "
                "at the start and cut at the end: they lag behind nothing. Raw lines keep the lowest and the highest "
                f"value of each of {RAW_BINS} bins, so that no spike is lost. Losses far above the start of training "
                "are drawn at the upper edge. A spike is a training loss more than 6 robust standard deviations above "
                "the median of the losses before it (up to 200), whose gradient, or that of the step before, is more "
                "than 4 above its own median. The training loss is the mean over ranks and accumulated forwards of "
                "each step."
            ),
        )


def _compared(context: ReportContext) -> tuple[Trial, ...]:
    """Return the trials at a fixed peak LR that measure a loss, not a speed or the outputs of a few steps."""
    return context.trials_where(
        lambda trial: (
            trial.spec.schedule.name != "ramp"
            and trial.spec.layout is None
            and COORDINATES not in trial.spec.instruments
        )
    )


def _groups(context: ReportContext, trials: Sequence[Trial]) -> list[tuple[str, str, list[tuple[str, list[Trial]]]]]:
    schedules = context.finding("schedules")
    wanted = set(schedules.trial_ids) if schedules else set()
    scaling = context.finding("scaling")
    first = [t for t in trials if scaling is None or t.trial_id in scaling.trial_ids or t.trial_id not in wanted]
    by_batch: dict[int, list[Trial]] = {}
    for trial in first:
        by_batch.setdefault(trial.spec.global_batch_size, []).append(trial)
    by_schedule: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.trial_id in wanted:
            by_schedule.setdefault(trial.spec.label, []).append(trial)
    groups = []
    if by_batch:
        panels = [(f"batch {count(size)}", by_batch[size]) for size in sorted(by_batch)]
        groups.append(("by-batch", "By batch size", panels))
    if len(by_schedule) > 1:
        groups.append(("by-schedule", "By schedule", [(short(k, 40), v) for k, v in by_schedule.items()]))
    return groups


def _figures(context: ReportContext, key: str, label: str, groups: list[tuple[str, list[Trial]]]) -> list[Figure]:
    everything = [trial for _, members in groups for trial in members]
    ceiling = loss_ceiling(context, everything)
    views: list[FigureView] = []
    points: dict[str, object] = {}
    names: tuple[tuple[LossName, str], ...] = (("train_loss", "training loss"), ("val_loss", "validation loss"))
    few_axes: tuple[Against, ...] = ("step",)
    for name, words in names:
        panels = [
            (title, lines)
            for title, members in groups[:MOST_PANELS]
            if (lines := trajectory_lines(context, members, name, ceiling))
        ]
        limits = TrajectoryLimits.of([line for _, lines in panels for line in lines])
        if limits is None:
            continue
        points[name] = {
            title: {line.trial_id: line.smoothed_loss.tolist() for line in lines} for title, lines in panels
        }
        for against in few_axes if len(everything) > MANY_TRIALS else AXIS_LABELS:
            views.append(_view(context, name, words, against, panels, limits))
    if not views:
        return []
    left_out = len(groups) - MOST_PANELS
    caption = f"{label}, one line a trial. The loss axis is shared; the three lowest losses are labelled with their LR."
    if left_out > 0:
        caption += f" {plural(left_out, 'further panel')} would not fit; the trials stand in the table."
    return [
        Figure(
            key=key,
            alt=f"{label}: {_sentence(everything)}",
            views=tuple(views),
            caption=caption,
            legend=_legend(context, everything),
            points=points,
            layers=(LegendEntry(mark="raw", label="raw values"),) if "train_loss" in points else (),
        )
    ]


def _view(
    context: ReportContext,
    name: LossName,
    words: str,
    against: Against,
    panels: list[tuple[str, list[TrajectoryLine]]],
    limits: TrajectoryLimits,
) -> FigureView:
    return FigureView(
        key=f"{name.split('_')[0]}-{against}",
        choices=(("Show", words), ("against", _VIEW_NAMES[against])),
        panels=tuple(
            Panel(
                draw=partial(
                    draw_trajectories, lines=lines, limits=limits, against=against, scale=context.lr_scale, ylabel=words
                ),
                title=title,
            )
            for title, lines in panels
        ),
    )


def _legend(context: ReportContext, trials: Sequence[Trial]) -> tuple[LegendEntry, ...]:
    scale = context.lr_scale
    rates = sorted({trial.spec.peak_lr for trial in trials})
    if len(rates) > 8:
        rates = [rates[round(k * (len(rates) - 1) / 7)] for k in range(8)]
    entries = [
        LegendEntry(mark=f"lr-{scale.level(lr)}", label=("LR " if k == 0 else "") + rate(lr))
        for k, lr in enumerate(rates)
    ]
    statuses = {trial.record.status for trial in trials}
    if "diverged" in statuses:
        entries.append(LegendEntry(mark="dashed", label="diverged"))
    if statuses - {"completed", "diverged"}:
        entries.append(LegendEntry(mark="dotted", label="stopped or failed"))
    if statuses - {"completed"}:
        entries.append(LegendEntry(mark="cross", label="where it ended"))
    if any((found := spikes_of(trial)) is not None and found.spikes for trial in trials):
        entries.append(LegendEntry(mark="triangle", label="loss spike"))
    return tuple(entries)


def _sentence(trials: Sequence[Trial]) -> str:
    statuses = Counter(trial.record.status for trial in trials)
    done = [trial for trial in trials if trial.record.final_loss is not None]
    parts = f"{statuses['completed']} of {plural(len(trials), 'trial')} ran to the horizon"
    others = [f"{number} {status.replace('_', ' ')}" for status, number in statuses.items() if status != "completed"]
    if others:
        parts += f"; {', '.join(others)}"
    if not done:
        return f"{parts}."
    best = min(done, key=lambda trial: trial.record.final_loss or 0.0)
    start = best.record.initial_loss
    fall = f", down from {loss(start)} at the start" if start is not None else ""
    return (
        f"{parts}. The lowest loss is {loss(best.record.final_loss)}{fall} "
        f"(LR {rate(best.spec.peak_lr)}, batch {count(best.spec.global_batch_size)}, seed {best.spec.seed})."
    )
