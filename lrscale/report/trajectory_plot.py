"""Loss against training: lines by trial, thinned and smoothed for drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np
import numpy.typing as npt

from lrscale.report.canvas import Canvas, padded, spread, text_width, wants_log
from lrscale.report.palette import LRScale, color
from lrscale.report.stability_data import spikes_of
from lrscale.report.thin import keep_extremes, smooth, sparse
from lrscale.report.words import count, loss, rate, short, significant

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext
    from lrscale.store.view import Trial

FloatArray = npt.NDArray[np.float64]
Against = Literal["step", "examples", "seconds"]
LossName = Literal["train_loss", "val_loss"]

AXIS_LABELS: dict[Against, str] = {"step": "steps", "examples": "examples", "seconds": "seconds"}
RAW_BINS = 40
SMOOTH_POINTS = 90
LABELLED = 3
"""LRs labelled at the end of their line, the best ones."""

_DASHES: dict[str, tuple[int, tuple[float, ...]]] = {
    "completed": (0, ()),
    "diverged": (0, (4, 2)),
}
_OTHER_DASHES = (0, (1, 1.6))


@final
@dataclass(frozen=True, slots=True)
class TrajectoryLine:
    """One trial's loss, ready to draw: raw and smoothed against each axis."""

    trial_id: str
    lr: float
    seed: int
    companions: str
    """Policy by which other settings moved with the batch size; empty where nothing did."""
    status: str
    final_loss: float | None
    raw: dict[Against, FloatArray]
    raw_loss: FloatArray
    smoothed: dict[Against, FloatArray]
    smoothed_loss: FloatArray
    spikes: dict[Against, FloatArray]
    """Where the loss spikes; empty where it does not, and for validation losses."""
    spike_loss: FloatArray
    spike_height: FloatArray
    """In robust standard deviations."""


def trajectory_lines(
    context: ReportContext, trials: Iterable[Trial], name: LossName, ceiling: float | None
) -> list[TrajectoryLine]:
    """Return the lines of trials that carry a loss.

    Parameters
    ----------
    context : ReportContext
    trials : iterable of Trial
    name : {"train_loss", "val_loss"}
        Training losses are smoothed; validation losses are few and exact, and stay as they are.
    ceiling : float or None
        Losses above it are drawn at it.
    """
    lines = []
    for trial in trials:
        trajectory = context.trajectory(trial.trial_id)
        if not len(trajectory) or name not in trajectory.columns:
            continue
        held = np.isfinite(trajectory[name])
        if not held.any():
            continue
        values = trajectory[name][held]
        if ceiling is not None:
            values = np.minimum(values, ceiling)
        axes: dict[Against, FloatArray] = {key: trajectory[key][held] for key in AXIS_LABELS}
        if name == "train_loss":
            index = np.arange(len(values), dtype=np.float64)
            kept, raw_loss = keep_extremes(index, values, RAW_BINS)
            chosen = kept.astype(np.int64)
            few = sparse(len(values), SMOOTH_POINTS)
            even = smooth(values)[few]
        else:
            chosen, raw_loss = np.empty(0, np.int64), np.empty(0)
            few = np.arange(len(values))
            even = values
        at, heights = _spikes(trial, axes["step"]) if name == "train_loss" else (np.empty(0, np.int64), np.empty(0))
        lines.append(
            TrajectoryLine(
                trial_id=trial.trial_id,
                lr=trial.spec.peak_lr,
                seed=trial.spec.seed,
                companions=short(trial.spec.companions["policy"], 24) if trial.spec.companions else "",
                status=trial.record.status,
                final_loss=trial.record.final_loss,
                raw={key: column[chosen] for key, column in axes.items()},
                raw_loss=raw_loss,
                smoothed={key: column[few] for key, column in axes.items()},
                smoothed_loss=even,
                spikes={key: column[at] for key, column in axes.items()},
                spike_loss=values[at],
                spike_height=heights,
            )
        )
    return lines


@final
@dataclass(frozen=True, slots=True)
class TrajectoryLimits:
    """Loss axis that several panels share; the length of training is each panel's own."""

    loss: tuple[float, float]
    log: bool

    @classmethod
    def of(cls, lines: Sequence[TrajectoryLine]) -> TrajectoryLimits | None:
        """Return limits that hold every smoothed line, or None when there is none."""
        losses = [float(part) for line in lines for part in (line.smoothed_loss.min(), line.smoothed_loss.max())]
        if not losses:
            return None
        log = wants_log(losses)
        lo, hi = padded(losses, log=log, share=0.03)
        return cls((lo, hi), log)


def loss_ceiling(context: ReportContext, trials: Iterable[Trial]) -> float | None:
    """Return the loss above which lines are cut: a little over where training starts.

    A trial that diverges may pass it by orders of magnitude, and would press all others flat.
    """
    starts = [
        float(trial.record.initial_loss)
        for trial in trials
        if trial.record.initial_loss is not None and math.isfinite(trial.record.initial_loss)
    ]
    if not starts:
        return None
    start = float(np.median(starts))
    return start + 0.25 * abs(start)


def draw_trajectories(
    canvas: Canvas,
    lines: Sequence[TrajectoryLine],
    limits: TrajectoryLimits,
    *,
    against: Against,
    scale: LRScale,
    ylabel: str,
) -> None:
    """Draw one panel: thin raw lines behind smoothed ones, the best LRs labelled at their end."""
    axes = canvas.axes
    labels = _end_labels(lines)
    room = max((text_width(text) for _, text in labels), default=0.0)
    canvas.margins(left=46, right=10 + round(room))
    longest = max(float(line.smoothed[against].max()) for line in lines)
    canvas.scale("x", 0.0, longest or 1.0, log=False, label_width=48)
    canvas.scale("y", *limits.loss, log=limits.log)
    canvas.axis_labels(AXIS_LABELS[against], ylabel)
    _draw_raw(canvas, [line for line in lines if len(line.raw_loss)], against, scale)
    for line in sorted(lines, key=lambda line: line.lr):
        tint = scale.color(line.lr)
        (drawn,) = axes.plot(
            line.smoothed[against],
            line.smoothed_loss,
            color=tint,
            lw=1.4,
            linestyle=_DASHES.get(line.status, _OTHER_DASHES),
            marker="o" if not len(line.raw_loss) else None,
            markersize=2.5,
            zorder=2,
        )
        ending = f"loss {loss(line.final_loss)}" if line.final_loss is not None else line.status
        policy = f", companions {line.companions}" if line.companions else ""
        canvas.hover(drawn, f"LR {rate(line.lr)}, seed {line.seed}{policy}, {ending}, {line.trial_id}")
    _draw_spikes(canvas, [line for line in lines if len(line.spike_loss)], limits, against)
    _draw_lost(canvas, [line for line in lines if line.status != "completed"], limits, against)
    places = [limits_share(limits, value) * (canvas.height - 50) for value, _ in labels]
    for (value, text), place, wanted in zip(
        labels, spread(places, gap=13, lo=0, hi=canvas.height - 50), places, strict=True
    ):
        canvas.label(longest or 1.0, value, text, dx=4, dy=place - wanted)


def _draw_raw(canvas: Canvas, lines: Sequence[TrajectoryLine], against: Against, scale: LRScale) -> None:
    from matplotlib.collections import LineCollection

    if lines:
        paths = [np.column_stack((line.raw[against], line.raw_loss)) for line in lines]
        tints = [scale.color(line.lr) for line in lines]
        thin = LineCollection(paths, colors=tints, linewidths=0.5, alpha=0.35, zorder=1)
        canvas.axes.add_collection(thin, autolim=False)
        canvas.mark(thin, "layer-raw")


def limits_share(limits: TrajectoryLimits, value: float) -> float:
    """Return how far up the loss axis a value lies, in [0, 1]."""
    lo, hi = limits.loss
    value = min(max(value, lo), hi)
    return math.log(value / lo) / math.log(hi / lo) if limits.log else (value - lo) / (hi - lo)


def _end_labels(lines: Sequence[TrajectoryLine]) -> list[tuple[float, str]]:
    ends: dict[float, list[tuple[float, float]]] = {}
    for line in lines:
        if line.final_loss is not None and math.isfinite(line.final_loss):
            ends.setdefault(line.lr, []).append((line.final_loss, float(line.smoothed_loss[-1])))
    ranked = sorted(ends.items(), key=lambda item: float(np.mean([final for final, _ in item[1]])))
    return [(float(np.mean([end for _, end in values])), rate(lr)) for lr, values in ranked[:LABELLED]]


def _spikes(trial: Trial, steps: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the rows at which a trial's loss spikes, and how high."""
    found = spikes_of(trial)
    place = {int(step): row for row, step in enumerate(steps)}
    kept = [spike for spike in found.spikes if spike.step in place] if found is not None else []
    rows = np.array([place[spike.step] for spike in kept], dtype=np.int64)
    return rows, np.array([spike.height for spike in kept])


def _draw_spikes(canvas: Canvas, lines: Sequence[TrajectoryLine], limits: TrajectoryLimits, against: Against) -> None:
    if not lines:
        return
    marks = canvas.axes.scatter(
        np.concatenate([line.spikes[against] for line in lines]),
        np.clip(np.concatenate([line.spike_loss for line in lines]), *limits.loss),
        marker="^",
        s=22,
        facecolors="none",
        edgecolors=color("bad"),
        linewidths=1.2,
        zorder=3,
        clip_on=False,
    )
    canvas.hover(
        marks,
        [
            f"LR {rate(line.lr)}, seed {line.seed}: spike at step {count(float(step))}, {significant(float(height))} "
            "robust standard deviations high"
            for line in lines
            for step, height in zip(line.spikes["step"], line.spike_height, strict=True)
        ],
    )


def _draw_lost(canvas: Canvas, lost: Sequence[TrajectoryLine], limits: TrajectoryLimits, against: Against) -> None:
    if not lost:
        return
    marks = canvas.axes.scatter(
        [float(line.smoothed[against][-1]) for line in lost],
        [min(max(float(line.smoothed_loss[-1]), limits.loss[0]), limits.loss[1]) for line in lost],
        marker="x",
        s=24,
        color=color("bad"),
        linewidths=1.3,
        zorder=4,
        clip_on=False,
    )
    canvas.hover(
        marks,
        [
            f"LR {rate(line.lr)}, seed {line.seed}: {line.status} at step {count(float(line.smoothed['step'][-1]))}"
            for line in lost
        ],
    )
