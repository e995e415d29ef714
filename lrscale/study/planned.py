"""What an experiment would cost before it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from lrscale.study.cost import Basis, weakest
from lrscale.study.cost.model import priced
from lrscale.study.experiments.base import AbstractExperiment, Context


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
    """Wall-clock time of the most trials, one after the other; None while nothing tells how fast they train."""
    device_seconds: float | None = None
    """The same, of all devices of each trial."""
    basis: Basis = "unknown"
    """How the time is known: that of the least certain trial."""
    note: str | None = None


def estimate(experiment: AbstractExperiment, context: Context) -> PlannedExperiment:
    """Return what an experiment would still run."""
    known = context.view
    certain = [spec for spec in experiment.plan(context) if known.get(spec) is None]
    finished = len(context.finished(experiment.plan(context)))
    most = experiment.at_most(context)
    left = max(len(certain), len(most) - finished) if certain or not finished else 0
    share = left / len(most) if most else 0.0
    costs = priced(context.price_list(), most)
    seconds, device_seconds = (
        _total(cost.seconds for cost in costs),
        _total(cost.device_seconds for cost in costs),
    )
    return PlannedExperiment(
        name=experiment.key,
        question=experiment.question,
        trials=len(certain),
        trials_at_most=left,
        examples=round(share * sum(spec.examples for spec in most)),
        seconds=None if seconds is None else share * seconds,
        device_seconds=None if device_seconds is None else share * device_seconds,
        basis=weakest(cost.basis for cost in costs) or "unknown",
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


def _total(parts: Iterable[float | None]) -> float | None:
    found = list(parts)
    return None if any(one is None for one in found) else sum(one for one in found if one is not None)
