"""The course of a search: the lowest loss so far, against trials and against examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Figure, LegendEntry, Panel
from lrscale.report.canvas import Canvas, padded, wants_log
from lrscale.report.palette import color
from lrscale.report.words import count, finite, loss, percent, rate
from lrscale.study.finding import Finding

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection

SIZE = (290, 250)


def course_figure(finding: Finding) -> Figure | None:
    """Return the course of a search, or None where no trial of it has a loss."""
    rows = course_rows(finding.tables["trials"])
    if not any(finite(row["best"]) for row in rows):
        return None
    confirmed = finding.numbers.get("confirmed_loss")
    level = None if confirmed is None else confirmed.value
    monitor = str(finding.data.get("monitor") or "loss")
    panels = tuple(
        Panel(
            draw=partial(_draw, rows=rows, by=by, name=name, level=level, monitor=monitor),
            wide=SIZE,
            title=title,
        )
        for by, name, title in (
            ("order", "trials", "Against trials"),
            ("examples_so_far", "training examples", "Against examples"),
        )
    )
    legend = [
        LegendEntry(mark="dot", label="loss of a trial at its horizon"),
        LegendEntry(mark="fit", label="lowest so far"),
    ]
    if any(row["status"] == "stopped" for row in rows):
        legend.append(LegendEntry(mark="ring", label="stopped early, with no loss at its horizon"))
    if any(_is_lost(row) for row in rows):
        legend.append(LegendEntry(mark="cross", label="gave no loss: diverged or failed"))
    if level is not None:
        legend.append(LegendEntry(mark="dashed", label="mean of the fresh seeds of the named setting"))
    last = rows[-1]
    return Figure.single(
        "course",
        panels,
        alt=(
            f"The lowest loss of {last['order']} trials is {loss(last['best'])}, "
            f"after {count(last['examples_so_far'])} examples."
        ),
        caption=(
            "The lowest measured loss so far, of the trials of the search alone. It is that of the luckiest run, and "
            "lies below what its setting does under other seeds: it says how fast the search came near, not how good "
            "the setting is."
        ),
        legend=tuple(legend),
        points={"course": [[row["order"], row["examples_so_far"], row["loss"], row["best"]] for row in rows]},
    )


def course_rows(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the trials of a search in their order, each with the examples spent and the lowest loss so far.

    Examples
    --------
    >>> trials = [
    ...     {"order": 1, "phase": "search", "loss": 2.0, "examples": 100, "status": "completed"},
    ...     {"order": 2, "phase": "search", "loss": None, "examples": 30, "status": "stopped"},
    ...     {"order": 3, "phase": "search", "loss": 1.0, "examples": 100, "status": "completed"},
    ... ]
    >>> [(row["examples_so_far"], row["best"]) for row in course_rows(trials)]
    [(100, 2.0), (130, 2.0), (230, 1.0)]
    """
    rows = []
    examples, best = 0, None
    for trial in trials:
        if trial["phase"] != "search":
            continue
        examples += int(trial.get("examples") or 0)
        if finite(trial["loss"]):
            best = trial["loss"] if best is None else min(best, trial["loss"])
        rows.append({**trial, "examples_so_far": examples, "best": best})
    return rows


def _is_lost(row: Mapping[str, Any]) -> bool:
    return not finite(row["loss"]) and row["status"] != "stopped"


def _draw(
    canvas: Canvas, rows: Sequence[Mapping[str, Any]], by: str, name: str, level: float | None, monitor: str
) -> None:
    canvas.margins(left=50, right=16, top=12)
    axes = canvas.axes
    losses = [float(row["loss"]) for row in rows if finite(row["loss"])]
    shown = losses if level is None else [*losses, level]
    log = min(shown) > 0 and wants_log(shown)
    lo, hi = padded(shown, log=log, share=0.1)
    end = float(rows[-1][by])
    canvas.scale("x", 0.0, end * 1.03, log=False)
    canvas.scale("y", lo, hi, log=log)
    canvas.axis_labels(name, monitor)
    finished = [row for row in rows if finite(row["best"])]
    places, lowest = [float(row[by]) for row in finished], [float(row["best"]) for row in finished]
    axes.step(places, lowest, where="post", color=color("accent"), lw=2.0, zorder=3)
    for kind, draw, height in (("loss", dots, None), ("stopped", rings, lo), ("lost", crosses, hi)):
        own = [row for row in rows if _kind(row) == kind]
        if own:
            heights = [float(row["loss"]) if height is None else height for row in own]
            canvas.hover(draw(canvas, [float(row[by]) for row in own], heights), [_title(row) for row in own])
    if level is not None:
        axes.axhline(level, color=color("muted"), lw=1.2, dashes=(5, 3), zorder=2)


def dots(canvas: Canvas, x: Sequence[float], y: Sequence[float]) -> PathCollection:
    """Draw trials that have a loss."""
    return canvas.axes.scatter(x, y, s=22, color=color("ink"), clip_on=False, zorder=4)


def rings(canvas: Canvas, x: Sequence[float], y: Sequence[float]) -> PathCollection:
    """Draw trials that were stopped early."""
    return canvas.axes.scatter(
        x, y, s=22, facecolors="none", edgecolors=color("muted"), linewidths=1.3, clip_on=False, zorder=4
    )


def crosses(canvas: Canvas, x: Sequence[float], y: Sequence[float]) -> PathCollection:
    """Draw trials that gave no loss."""
    return canvas.axes.scatter(x, y, s=28, marker="x", color=color("bad"), clip_on=False, zorder=4)


def _kind(row: Mapping[str, Any]) -> str:
    if finite(row["loss"]):
        return "loss"
    return "lost" if _is_lost(row) else "stopped"


def _title(row: Mapping[str, Any]) -> str:
    told = f"no. {row['order']}: LR {rate(row['lr'])}, batch {row['batch_size']}"
    if finite(row["loss"]):
        return f"{told}: {loss(row['loss'])}"
    return f"{told}: {row['status']} after {count(row.get('examples'))} examples"


def stopped_words(stopping: Mapping[str, Any]) -> tuple[str, str]:
    """Return how many trials a stopper ended, and what that saved.

    Examples
    --------
    >>> stopped_words({"stopped": 6, "trials": 20, "saved": 48_000, "share_saved": 0.24})
    ('6 of 20', '48k examples saved, 24 % of what all would have trained.')
    """
    share = percent(stopping["share_saved"])
    saved = f"{count(stopping['saved'])} examples saved, {share} of what all would have trained."
    return f"{stopping['stopped']} of {stopping['trials']}", saved
