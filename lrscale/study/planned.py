"""What an experiment would cost before it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

from lrscale.errors import LrscaleError
from lrscale.store import TrialSpec
from lrscale.study.budget.allocate import Need
from lrscale.study.cost import Basis, CostModel, TrialCost, weakest
from lrscale.study.cost.timed_trial import kind_of, task_of
from lrscale.study.experiments.base import AbstractExperiment, Context

Verdict = Literal["full", "reduced", "left out"]
"""What a budget leaves of a question."""
Size = tuple[str, tuple[str, ...], int, int, int | None]
"""What the cost of a trial depends on: task, kind, batch, steps, validations."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExperiment:
    """An experiment's cost before it runs, on top of its finished trials."""

    name: str
    question: str
    trials: int
    """Trials that are certain to run."""
    trials_expected: int
    """Trials that it usually comes to run."""
    trials_at_most: int
    """Trials that an adaptive experiment could come to run."""
    examples: int
    """Training examples of the trials expected."""
    seconds: float | None
    """Wall-clock time of the trials expected; None while nothing tells how fast they train."""
    device_seconds: float | None = None
    """Their time on all of their devices."""
    basis: Basis = "unknown"
    """How the time is known: that of the least certain trial."""
    note: str | None = None
    importance: int
    """Place in the order in which a budget is given, smaller first."""
    verdict: Verdict | None = None
    """What the budget leaves of the question; None without a budget, or where the time is not known."""
    changes: tuple[str, ...] = ()
    """Settings that the budget reduces, as ``seeds 3 -> 2``."""
    whole: Need | None = None
    """What the question takes in its full form, where the budget leaves less of it."""
    least: Need | None = None
    """What its cheapest form takes, where the budget leaves it out and a reduced one exists."""

    @property
    def need(self) -> Need:
        """What it is expected to take on top of what is there."""
        return Need(trials=self.trials_expected, examples=self.examples, seconds=self.seconds)


def estimate(experiment: AbstractExperiment, context: Context) -> PlannedExperiment:
    """Return what an experiment would still run."""
    wanted = experiment.plan(context)
    finished = [spec for spec in wanted if context.ended(spec) is not None]
    certain = [spec for spec in wanted if context.ended(spec) is None]
    over = not certain and bool(finished)
    expected = [] if over else _left(experiment.typical(context), finished, certain)
    most = [] if over else _left(experiment.at_most(context), finished, certain)
    prices = context.price_list()
    costs = [_cost(prices, spec) for spec in expected]
    need = taken_by(expected, costs, experiment.side_by_side(context.recipe))
    return PlannedExperiment(
        name=experiment.key,
        question=experiment.question,
        trials=len(certain),
        trials_expected=need.trials,
        trials_at_most=max(len(most), need.trials),
        examples=need.examples,
        seconds=need.seconds,
        device_seconds=_total(cost.device_seconds for cost in costs),
        basis=weakest(cost.basis for cost in costs) or "measured",
        note=f"trials that are there: {len(finished)}" if finished else None,
        importance=experiment.importance,
    )


def taken_by(specs: Sequence[TrialSpec], costs: Sequence[TrialCost], at_once: int) -> Need:
    """Return what trials take together.

    Parameters
    ----------
    specs : sequence of TrialSpec
    costs : sequence of TrialCost
        Of each of them.
    at_once : int
        Trials that run side by side, at least 1; one with a pinned layout runs alone.
    """
    return Need(
        trials=len(costs),
        examples=sum(cost.examples for cost in costs),
        seconds=_total(
            None if cost.seconds is None else cost.seconds / (at_once if spec.layout is None else 1)
            for spec, cost in zip(specs, costs, strict=True)
        ),
    )


def unknown_cost(experiment: AbstractExperiment, why: str) -> PlannedExperiment:
    """Return the entry of an experiment whose cost cannot be known yet."""
    return PlannedExperiment(
        name=experiment.key,
        question=experiment.question,
        trials=0,
        trials_expected=0,
        trials_at_most=0,
        examples=0,
        seconds=None,
        note=f"not known before the first run: {why}",
        importance=experiment.importance,
    )


def _left(usual: list[TrialSpec], finished: list[TrialSpec], certain: list[TrialSpec]) -> list[TrialSpec]:
    """Return the specs still to run: the certain ones, and as many of each size as are usual and not there.

    Only what the experiment itself has asked for counts as there: others train at the same sizes, at other LRs.
    """
    there = Counter(map(_size, finished))
    here = Counter(map(_size, certain))
    left = list(certain)
    for spec in usual:
        size = _size(spec)
        if there[size] > 0:
            there[size] -= 1
        elif here[size] > 0:
            here[size] -= 1
        else:
            left.append(spec)
    return left


def _size(spec: TrialSpec) -> Size:
    # Schedules cost the same, but a comparison has as many trials of each.
    return (
        task_of(spec),
        (spec.schedule.label, *kind_of(spec)),
        spec.global_batch_size,
        spec.horizon,
        spec.validate_every,
    )


def _cost(prices: CostModel, spec: TrialSpec) -> TrialCost:
    try:
        return prices.cost(spec)
    except LrscaleError:
        # A batch that the devices cannot form has no time, and is refused when it is to run.
        return TrialCost(examples=spec.examples, devices=1, seconds=None, basis="unknown")


def _total(parts: Iterable[float | None]) -> float | None:
    found = list(parts)
    return None if any(one is None for one in found) else sum(one for one in found if one is not None)
