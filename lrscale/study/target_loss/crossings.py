"""When the trials of each batch size reach a loss, and which loss is asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from lrscale.laws.base import FitStatus
from lrscale.laws.steps import Crossing, steps_to_target
from lrscale.store import Trajectory, Trial

FloatArray = npt.NDArray[np.float64]

FEWEST_BATCHES = 3
"""Batch sizes that must reach the target: with two every hyperbola fits."""
FEWEST_VALIDATIONS = 5
EARLIEST = 0.2
"""Share of a run before which a crossing is not trusted: warm-up and the first validations decide it."""
LATEST = 0.9
"""Share of a run at which a loss that the study chooses itself is reached by every batch size that it counts on."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Validation loss against the step of one completed trial."""

    trial_id: str
    batch_size: int
    lr: float
    """Peak LR."""
    seed: int
    horizon: int
    """Steps of the whole run."""
    steps: FloatArray
    loss: FloatArray


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A curve and where it reaches the target."""

    curve: Curve
    crossing: Crossing

    @property
    def reached(self) -> bool:
        """Whether it reaches the target, coming from above it."""
        return self.crossing.status is FitStatus.OK

    @property
    def early(self) -> bool:
        """Whether it is at the target sooner than can be trusted."""
        step = self.crossing.step
        within = step is not None and step < EARLIEST * self.curve.horizon
        return self.crossing.status is FitStatus.CENSORED_LOW or (self.reached and within)


def read_curves(trials: Iterable[Trial], load: Callable[[str], Trajectory]) -> list[Curve]:
    """Return the validation curves of the trials of one batch size.

    Only of LRs at which as many seeds completed as at any other: a search replicates near the best LR, and elsewhere
    one lucky run would look like the soonest.

    Parameters
    ----------
    trials : iterable of Trial
    load : callable
        From a trial id to its trajectory.
    """
    completed = [trial for trial in trials if trial.record.status == "completed"]
    counts = Counter(trial.spec.peak_lr for trial in completed)
    most = max(counts.values(), default=0)
    curves = []
    for trial in completed:
        if counts[trial.spec.peak_lr] < most:
            continue
        steps, loss = load(trial.trial_id).points("val_loss")
        first = steps > 0
        curves.append(
            Curve(
                trial_id=trial.trial_id,
                batch_size=trial.spec.global_batch_size,
                lr=trial.spec.peak_lr,
                seed=trial.spec.seed,
                horizon=trial.spec.horizon,
                steps=steps[first],
                loss=loss[first],
            )
        )
    return sorted(curves, key=lambda one: (one.lr, one.seed))


def soonest(curves: Sequence[Curve], target: float) -> tuple[Run, ...]:
    """Return the runs of the LR that reaches a target soonest: most of its seeds, then the mean of ln(steps).

    The LR is tuned for the target and not for the end of the run (Shallue et al. 2018, arXiv:1811.03600): the law of
    the steps holds for the fewest that a batch size can do with.
    """
    groups: dict[float, list[Run]] = {}
    for curve in curves:
        crossing = steps_to_target(curve.steps, curve.loss, target)
        if crossing.step is not None:
            groups.setdefault(curve.lr, []).append(Run(curve=curve, crossing=crossing))
    if not groups:
        return ()
    return tuple(min(groups.values(), key=_slowness))


def _slowness(runs: Iterable[Run]) -> tuple[int, float]:
    runs = list(runs)
    above = sum(run.crossing.status is FitStatus.CENSORED_HIGH for run in runs)
    return above, sum(math.log(run.crossing.step or 1.0) for run in runs) / len(runs)


def choose_target(by_batch: Mapping[int, Sequence[Curve]]) -> float | None:
    """Return the loss that the most batch sizes, three at least, reach late in their runs, or None.

    A batch size can reach what all seeds of one of its LRs have come to after `LATEST` of their steps. The target is
    the highest of these losses, unless a run comes to it before `EARLIEST` of its own steps; then the batch size that
    reaches least is left out, until three remain.
    """
    reach = sorted(filter(math.isfinite, map(_reach, by_batch.values())))
    for target in reversed(reach[FEWEST_BATCHES - 1 :]):
        runs = [run for curves in by_batch.values() for run in soonest(curves, target)]
        reached = {run.curve.batch_size for run in runs if run.reached}
        if len(reached) >= FEWEST_BATCHES and not any(run.early for run in runs):
            return target
    return None


def _reach(curves: Sequence[Curve]) -> float:
    worst: dict[float, float] = {}
    for curve in curves:
        at = float(np.interp(LATEST * curve.horizon, curve.steps, curve.loss)) if curve.steps.size else math.inf
        worst[curve.lr] = max(worst.get(curve.lr, -math.inf), at)
    return min(worst.values(), default=math.inf)
