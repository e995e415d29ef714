"""The trajectories as data, for the part of the page that can be zoomed, filtered and smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lrscale.report.thin import SMOOTHING_WINDOW
from lrscale.report.words import count, duration, loss, rate, short

if TYPE_CHECKING:
    from lrscale.report.context import ReportContext
    from lrscale.store import Trajectory
    from lrscale.store.view import Trial

FloatArray = npt.NDArray[np.float64]

MOST_BINS = 150
"""Bins of a trajectory, each with its mean, lowest and highest training loss."""
ALL_BINS = 30_000
"""Bins of all trajectories together: half a hundred bytes each in the page."""
FEWEST_BINS = 24
DIGITS = 4


def explorer_data(context: ReportContext, trials: Sequence[Trial], ceiling: float | None) -> dict[str, Any] | None:
    """Return what the page needs to draw every trial, or None where no trial left a finite loss.

    Parameters
    ----------
    context : ReportContext
    trials : sequence of Trial
        Those that are compared.
    ceiling : float or None
        Loss up to which the first look goes; what lies above is reached by zooming out.

    Returns
    -------
    dict
        JSON values: ``runs``, and for each of ``batch``, ``schedule``, ``seed`` and ``status`` nothing more than what
        they hold. Training losses are bins with mean, lowest and highest value, so that no spike is lost; validation
        losses are all there.
    """
    bins = max(FEWEST_BINS, min(MOST_BINS, ALL_BINS // max(1, len(trials))))
    runs = [run for trial in trials if (run := _run(context, trial, bins)) is not None]
    if not runs:
        return None
    return {
        "runs": runs,
        "ceiling": None if ceiling is None else rounded(ceiling),
        "smoothing": SMOOTHING_WINDOW,
        "monitor": context.monitor,
    }


def _run(context: ReportContext, trial: Trial, bins: int) -> dict[str, Any] | None:
    trajectory, spec, record = context.trajectory(trial.trial_id), trial.spec, trial.record
    training, validation = _training(trajectory, bins), _validation(trajectory)
    if training is None and validation is None:
        return None
    ended = loss(record.final_loss) if record.final_loss is not None else record.status.replace("_", " ")
    said: list[tuple[str, str]] = [
        ("trial", trial.trial_id),
        ("experiment", context.experiment_of.get(trial.trial_id, "")),
        ("peak LR", rate(spec.peak_lr)),
        ("batch", count(spec.global_batch_size)),
        ("schedule", short(spec.label, 60)),
        ("warm-up", f"{count(spec.schedule.warmup_steps)} steps"),
        ("horizon", f"{count(spec.horizon)} steps"),
        ("seed", str(spec.seed)),
        ("ended", f"{record.status.replace('_', ' ')}, {context.monitor} {ended}" if ended else record.status),
    ]
    if (total := record.timing.get("total")) is not None and math.isfinite(total):
        said.append(("took", duration(total)))
    if record.layout is not None:
        split = record.layout
        said.append(
            ("layout", f"{split.per_device_batch_size} per device x {split.accumulate} x {split.world_size} devices")
        )
    said += [(short(name, 40), short(value, 80)) for name, value in spec.overrides.items()]
    if record.reason:
        said.append(("reason", short(record.reason, 200)))
    return {
        "lr": spec.peak_lr,
        "level": context.lr_scale.level(spec.peak_lr),
        "batch": spec.global_batch_size,
        "schedule": short(spec.label, 40),
        "seed": spec.seed,
        "status": record.status.replace("_", " "),
        "said": said,
        "train": training,
        "val": validation,
    }


def _training(trajectory: Trajectory, bins: int) -> dict[str, list[float]] | None:
    held = _held(trajectory, "train_loss")
    if held is None:
        return None
    values = trajectory["train_loss"][held]
    edges = np.unique(np.linspace(0, len(values), min(bins, len(values)) + 1).astype(int))
    starts, last = edges[:-1], edges[1:] - 1
    sums = np.add.reduceat(values, starts)
    points = {
        **_axes(trajectory, held, last),
        "mean": [rounded(value) for value in sums / np.diff(edges)],
    }
    if len(starts) < len(values):
        points["lo"] = [rounded(value) for value in np.minimum.reduceat(values, starts)]
        points["hi"] = [rounded(value) for value in np.maximum.reduceat(values, starts)]
    return points


def _validation(trajectory: Trajectory) -> dict[str, list[float]] | None:
    held = _held(trajectory, "val_loss")
    if held is None:
        return None
    values = trajectory["val_loss"][held]
    return {
        **_axes(trajectory, held, np.arange(len(values))),
        "mean": [rounded(value) for value in values],
    }


def _held(trajectory: Trajectory, name: str) -> npt.NDArray[np.bool_] | None:
    if not len(trajectory) or name not in trajectory.columns:
        return None
    held = np.isfinite(trajectory[name])
    return held if held.any() else None


def _axes(trajectory: Trajectory, held: npt.NDArray[np.bool_], places: npt.NDArray[np.int64]) -> dict[str, list[float]]:
    return {
        "step": [int(value) for value in trajectory["step"][held][places]],
        "examples": [int(value) for value in trajectory["examples"][held][places]],
        "seconds": [rounded(value) for value in trajectory["seconds"][held][places]],
    }


def rounded(value: float) -> float:
    """Return a number with the digits that a screen can show.

    Examples
    --------
    >>> rounded(0.0123456)
    0.01235
    """
    return float(f"{value:.{DIGITS}g}")
