"""How each entrant gets on along the way: best loss, mean loss, and when it reaches a target, paired by seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.laws import Difference, paired_difference
from lrscale.laws.base import FitStatus
from lrscale.laws.steps import steps_to_target
from lrscale.store import Trajectory, Trial
from lrscale.study.lr_answer import bounds

CONFIDENCE = 0.95
MEASURES = ("final", "lowest", "mean", "examples", "seconds")
"""Loss at the end, the lowest on the way, its mean over the examples, and the examples and seconds to the target."""
COMPARED = ("final", "lowest", "mean", "examples")
"""Those whose differences get an interval. Seconds depend on what else the machine did."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The trials of one entrant at the LR that was tried nearest its best one, by seed."""

    lr: float
    by_seed: Mapping[int, Mapping[str, float | None]]
    """Measure by name of each seed; None where the target was not reached."""

    def of(self, measure: str) -> dict[Hashable, float | None]:
        """Return one measure by seed."""
        return {seed: row[measure] for seed, row in self.by_seed.items()}

    def mean(self, measure: str) -> float | None:
        """Return the mean of a measure over the seeds; None unless every seed has one."""
        values = [value for value in self.of(measure).values() if value is not None]
        return sum(values) / len(values) if values and len(values) == len(self.by_seed) else None


def tried_at_best(trials: Sequence[Trial], best_lr: float | None) -> list[Trial]:
    """Return the completed trials at the LR nearest the best one of those with the most seeds; none without a best."""
    done = [trial for trial in trials if trial.record.status == "completed" and trial.record.final_loss is not None]
    if best_lr is None or not done:
        return []
    counts = Counter(trial.spec.peak_lr for trial in done)
    most = max(counts.values())
    near = min((lr for lr in counts if counts[lr] == most), key=lambda lr: (abs(math.log(lr / best_lr)), lr))
    return [trial for trial in done if trial.spec.peak_lr == near]


def read_courses(
    trials: Mapping[str, Sequence[Trial]],
    best_lrs: Mapping[str, float | None],
    load: Callable[[str], Trajectory],
    target: float | None,
) -> tuple[dict[str, Course], float | None]:
    """Return the course of each entrant that has a best LR, and the target that examples and seconds are counted to.

    Parameters
    ----------
    trials : mapping
        Finished trials by label.
    best_lrs : mapping
        Fitted best LR by label; None where it was not located.
    load : callable
        From a trial id to its trajectory.
    target : float or None
        Loss that is asked for. None: the highest final loss among them, which all of them reach.
    """
    chosen = {label: tried_at_best(trials[label], best_lrs.get(label)) for label in trials}
    chosen = {label: some for label, some in chosen.items() if some}
    finals = [float(trial.record.final_loss or 0.0) for some in chosen.values() for trial in some]
    if target is None:
        target = max(finals, default=None)
    courses = {}
    for label, some in chosen.items():
        rows = {trial.spec.seed: _measures(trial, load(trial.trial_id), target) for trial in some}
        courses[label] = Course(lr=some[0].spec.peak_lr, by_seed=rows)
    return courses, target


def along_rows(courses: Mapping[str, Course], leader: str | None) -> list[dict[str, Any]]:
    """Return a row for each entrant: every measure's mean, and its difference to the leader's with an interval.

    Differences are paired by seed, and the intervals of one measure hold for all rows together (Bonferroni).
    """
    first = courses.get(leader) if leader is not None else None
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(courses) - 1)
    rows = []
    for label, course in courses.items():
        row: dict[str, Any] = {"label": label, "lr": course.lr, "seeds": len(course.by_seed), "confidence": confidence}
        for measure in MEASURES:
            row[measure] = course.mean(measure)
        for measure in COMPARED:
            gap: Difference | None = None
            if first is not None and course is not first:
                gap = paired_difference(course.of(measure), first.of(measure), confidence=confidence)
            lo, hi = (None, None) if gap is None or gap.interval is None else bounds(gap.interval)
            row |= {f"{measure}_gap": None if gap is None else gap.value, f"{measure}_lo": lo, f"{measure}_hi": hi}
        rows.append(row)
    return rows


def _measures(trial: Trial, trajectory: Trajectory, target: float | None) -> dict[str, float | None]:
    row: dict[str, float | None] = dict.fromkeys(MEASURES)
    row["final"], row["lowest"] = trial.record.final_loss, trial.record.best_loss
    steps, loss = trajectory.points("val_loss")
    seen = (steps > 0) & np.isfinite(loss)
    steps, loss = steps[seen], loss[seen]
    if steps.size < 2:
        return row
    # The trapezoid rule: validations may lie at uneven distances.
    row["mean"] = float(np.sum((loss[1:] + loss[:-1]) / 2 * np.diff(steps)) / (steps[-1] - steps[0]))
    if target is None:
        return row
    # A kernel would smear the drop of a cooldown; validations are few, on the same examples every time.
    crossing = steps_to_target(steps, loss, target, smoothing="running_minimum")
    if crossing.status is FitStatus.OK and crossing.step is not None:
        row["examples"] = crossing.step * trial.spec.global_batch_size
        at, seconds = trajectory.points("seconds")
        row["seconds"] = float(np.interp(crossing.step, at, seconds))
    return row
