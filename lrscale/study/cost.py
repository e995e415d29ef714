"""What an experiment would cost before it runs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import final

from lrscale.store import StudyView, TrialSpec
from lrscale.study.experiments.base import AbstractExperiment, Context

START_SECONDS = 1.0
"""Start of a trial besides its training, where none has been measured."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExperiment:
    """An experiment's cost before it runs."""

    name: str
    question: str
    trials: int
    """Trials that are certain to run."""
    trials_at_most: int
    """Trials that an adaptive experiment could come to run."""
    examples: int
    """Training examples of the most trials."""
    seconds: float | None
    """Wall-clock time of the most trials, one after the other; None while no trial has measured a throughput."""
    note: str | None = None


def estimate(experiment: AbstractExperiment, context: Context) -> PlannedExperiment:
    """Return what an experiment would still run."""
    known = context.view
    certain = [spec for spec in experiment.plan(context) if known.get(spec) is None]
    finished = len(context.finished(experiment.plan(context)))
    most = experiment.at_most(context)
    left = max(len(certain), len(most) - finished) if certain or not finished else 0
    share = left / len(most) if most else 0.0
    seconds = _seconds(known, most)
    return PlannedExperiment(
        name=experiment.key,
        question=experiment.question,
        trials=len(certain),
        trials_at_most=left,
        examples=round(share * sum(spec.examples for spec in most)),
        seconds=None if seconds is None else share * seconds,
        note=f"trials that are there: {finished}" if finished else None,
    )


def unknown_cost(experiment: AbstractExperiment, why: str) -> PlannedExperiment:
    """Return the entry of an experiment whose cost cannot be known yet."""
    return PlannedExperiment(
        name=experiment.key,
        question=experiment.question,
        trials=0,
        trials_at_most=0,
        examples=0,
        seconds=None,
        note=f"not known before the first run: {why}",
    )


def _seconds(view: StudyView, specs: list[TrialSpec]) -> float | None:
    rates: dict[int, list[float]] = {}
    starts = []
    for trial in view:
        rate = trial.record.timing.get("examples_per_second")
        if rate:
            rates.setdefault(trial.spec.global_batch_size, []).append(rate)
            total, training = trial.record.timing.get("total"), trial.record.timing.get("training")
            if total is not None and training is not None:
                starts.append(total - training)
    if not rates:
        return None
    medians = {size: statistics.median(some) for size, some in rates.items()}
    start = statistics.median(starts) if starts else START_SECONDS

    def rate_at(size: int) -> float:
        return medians[min(medians, key=lambda known: abs(known - size))]

    return sum(start + spec.examples / rate_at(spec.global_batch_size) for spec in specs)
