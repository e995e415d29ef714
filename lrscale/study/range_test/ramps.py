"""The ramps of a range test: their trials, and the curves that these leave behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np

from lrscale.errors import StudyError
from lrscale.laws import RangeFinding, analyse_range_curves, smooth_log_lr
from lrscale.laws.base import FloatArray
from lrscale.laws.range_test.staircase import rung_means
from lrscale.recipe import Recipe
from lrscale.recipe.experiments import VALIDATION
from lrscale.recipe.experiments import RangeTest as RangeTestSettings
from lrscale.store import StartState, Trial, TrialSpec
from lrscale.store.files import content_hash
from lrscale.study.experiments.base import Context
from lrscale.study.specs import make_spec
from lrscale.units import Duration

FALLBACK_BATCH = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ramps:
    """The ramps at one batch size that left a curve."""

    batch_size: int
    trials: tuple[Trial, ...]
    curves: tuple[tuple[FloatArray, FloatArray], ...]
    """LR and loss, one pair a trial; one point a step, or a rung of a staircase."""
    reason: str | None
    """Why there is no curve, where there is none."""

    @property
    def diverged_at(self) -> tuple[float | None, ...]:
        """LR at which each ramp ended as diverged."""
        return tuple(
            float(lr[-1]) if trial.record.status == "diverged" else None
            for trial, (lr, _) in zip(self.trials, self.curves, strict=True)
        )

    @property
    def monitor(self) -> str | None:
        """Name of the monitored loss of the trials."""
        return next((trial.record.monitor for trial in self.trials if trial.record.monitor), None)

    def finding(self) -> RangeFinding | None:
        """Return what the curves say together; None without a curve."""
        return analyse_range_curves(self.curves, diverged_at=self.diverged_at) if self.curves else None

    def rows(self) -> list[dict[str, Any]]:
        """Return the curves as JSON values for figures."""
        rows = []
        for trial, (lr, loss), end in zip(self.trials, self.curves, self.diverged_at, strict=True):
            finite = np.isfinite(loss)
            smoothed = np.full(len(lr), np.nan)
            if finite.sum() >= 2:
                smoothed[finite] = smooth_log_lr(lr[finite], loss[finite])
            rows.append(
                {
                    "seed": trial.spec.seed,
                    "lr": lr.tolist(),
                    "loss": [value if np.isfinite(value) else None for value in loss.tolist()],
                    "smoothed": [value if np.isfinite(value) else None for value in smoothed.tolist()],
                    "diverged_at": end,
                    "trial_id": trial.trial_id,
                }
            )
        return rows


def settings_of(recipe: Recipe) -> RangeTestSettings:
    """Return the settings of the range test, which the recipe asks for."""
    settings = recipe.experiments.range_test
    assert settings is not None
    return settings


def ramp_specs(context: Context, batch_size: int) -> list[TrialSpec]:
    """Return the ramps at one batch size, a seed each."""
    settings = settings_of(context.recipe)
    shape = {"start_factor": settings.lr_min / settings.lr_max, "hold": settings.hold}
    return [
        asked_spec(
            context,
            make_spec(
                context.recipe,
                peak_lr=settings.lr_max,
                batch_size=batch_size,
                horizon=Duration(settings.steps, "steps"),
                schedule="ramp",
                settings=shape,
                seed=seed,
            ),
            validate_every=None if settings.monitor is None else settings.hold,
        )
        for seed in range(settings.seeds)
    ]


def asked_spec(context: Context, spec: TrialSpec, *, validate_every: int | None) -> TrialSpec:
    """Return a spec with what the range test asks of all its trials: start, optimizer, monitored value."""
    settings = settings_of(context.recipe)
    named = settings.monitor is not None and settings.monitor != VALIDATION
    return dataclasses.replace(
        spec,
        task={**spec.task, "monitor": settings.monitor} if named else spec.task,
        validate_every=validate_every,
        optimizer=settings.optimizer,
        start=start_state(context),
    )


def read_ramps(context: Context, batch_size: int) -> Ramps:
    """Return what the finished ramps at one batch size recorded."""
    settings = settings_of(context.recipe)
    finished = context.finished(ramp_specs(context, batch_size))
    trials, curves = [], []
    for trial in finished:
        lr, loss = _curve(context, trial, validation=settings.monitor is not None)
        if lr.size >= 2:
            trials.append(trial)
            curves.append((lr, loss))
    return Ramps(
        batch_size=batch_size,
        trials=tuple(trials),
        curves=tuple(curves),
        reason=next((trial.record.reason for trial in finished if trial.record.reason), None),
    )


def _curve(context: Context, trial: Trial, *, validation: bool) -> tuple[FloatArray, FloatArray]:
    if trial.record.steps == 0:
        return np.empty(0), np.empty(0)
    trajectory = context.view.load_trajectory(trial.trial_id)
    steps, lr = trajectory["step"], trajectory["lr"]
    kept = np.isfinite(lr) & np.isfinite(steps)
    if validation:
        # A validation has the step after which it ran, and the LR is that of the step.
        at, values = trajectory.points("val_loss")
        place = np.searchsorted(steps[kept], at)
        return lr[kept][np.minimum(place, kept.sum() - 1)], values
    lr, loss = lr[kept], trajectory["train_loss"][kept]
    return rung_means(lr, loss) if trial.spec.schedule.settings.get("hold", 1) > 1 else (lr, loss)


def range_test_batches(recipe: Recipe) -> tuple[int, ...]:
    """Return the global batch sizes of the range test, the one that stands for all of them first."""
    settings = recipe.experiments.range_test
    if settings is None or settings.batch_sizes is None:
        return (range_test_batch(recipe),)
    reference = middle(settings.batch_sizes)
    return (reference, *sorted(size for size in settings.batch_sizes if size != reference))


def range_test_batch(recipe: Recipe) -> int:
    """Return the global batch size of the range test: its own, or that of the sweep or the search."""
    settings = recipe.experiments.range_test
    if settings is not None and settings.batch_sizes is not None:
        return middle(settings.batch_sizes)
    if settings is not None and settings.batch_size is not None:
        return settings.batch_size
    scaling, search = recipe.experiments.scaling, recipe.experiments.search
    if scaling is not None:
        return middle(scaling.batch_sizes)
    if search is not None and search.batch_sizes is not None:
        return middle(search.batch_sizes)
    world = recipe.layout.devices * recipe.layout.num_nodes
    return max(FALLBACK_BATCH, world)


def middle(sizes: Sequence[int]) -> int:
    """Return the middle one of some batch sizes, the smaller of two."""
    return sorted(sizes)[(len(sizes) - 1) // 2]


def start_state(context: Context) -> StartState | None:
    """Return the checkpoint that the recipe starts from, known by its content.

    Where the file is not at hand, as on a machine that only reads the study, the trials that were started from that
    path tell its content.

    Raises
    ------
    StudyError
        When there is neither.
    """
    named = settings_of(context.recipe).checkpoint
    if named is None:
        return None
    path = context.recipe.root / named
    if not path.is_file():
        starts = (trial.spec.start for trial in context.view)
        found = next((start for start in starts if start is not None and start.path == named), None)
        if found is None:
            raise StudyError(
                f"experiments.range_test.checkpoint: there is no file {path}", hint="the path is relative to the recipe"
            )
        return found
    known = path.stat()
    return StartState(path=named, sha256=_hash(path, known.st_mtime_ns, known.st_size))


@lru_cache(maxsize=16)
def _hash(path: Path, changed_ns: int, size: int) -> str:
    del changed_ns, size
    return content_hash(path)
