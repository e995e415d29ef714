"""A grid of LRs whose later replicates may end early, from the best LR of the first one outwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lrscale.recipe.engines import PrunerChoice
from lrscale.stoppers import Earlier
from lrscale.store import Trial, TrialSpec
from lrscale.study.bounded import bounded
from lrscale.study.experiments.base import Context
from lrscale.study.validations import losses_at

NEAREST = 2
"""LRs on each side of the best one that are asked for with it: the survivors that a vertex takes."""


def grid_plan(
    context: Context,
    learning_rates: Sequence[float],
    seeds: int,
    spec_of: Callable[[float, int], TrialSpec],
    pruner: PrunerChoice,
    validations: int,
) -> list[TrialSpec]:
    """Return every trial wanted so far of a grid of LRs.

    The first replicate trains every LR to its horizon: it says where the best LR is, and what the rule costs. The
    others begin around that and go outwards, an LR on each side at a time, each with bounds from those of its own seed.

    Parameters
    ----------
    context : Context
    learning_rates : sequence of float
    seeds : int
        Replicates.
    spec_of : callable
        From an LR and the number of a replicate to a spec.
    pruner : PrunerChoice
        The rule.
    validations : int
        Validations over the horizon.
    """
    stopper = pruner.stopper()
    first = [spec_of(lr, 0) for lr in learning_rates]
    ended = [context.ended(spec) for spec in first]
    losses = [(trial.record.final_loss, spec.peak_lr) for trial, spec in zip(ended, first, strict=True) if trial]
    known = [(loss, lr) for loss, lr in losses if loss is not None]
    if stopper is None:
        return first + [spec_of(lr, seed) for seed in range(1, seeds) for lr in learning_rates]
    if any(trial is None for trial in ended) or not known:
        return first
    wanted = list(first)
    rings = outwards(learning_rates, min(known)[1])
    for seed in range(1, seeds):
        earlier: list[Earlier] = []
        for ring in rings:
            specs = [
                bounded(
                    spec_of(lr, seed),
                    stopper,
                    pruner.name,
                    number=len(earlier) + place,
                    earlier=earlier,
                    validations=validations,
                )
                for place, lr in enumerate(ring)
            ]
            wanted += specs
            trials = [context.ended(spec) for spec in specs]
            if any(trial is None for trial in trials):
                break
            earlier += [
                _earlier(context, trial, len(earlier) + place, validations)
                for place, trial in enumerate(trials)
                if trial is not None
            ]
    return wanted


def outwards(learning_rates: Sequence[float], best: float) -> list[list[float]]:
    """Return LRs in the groups in which they are asked for: those next to the best one, then the next of each side.

    Examples
    --------
    >>> outwards([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], 8.0)
    [[2.0, 4.0, 8.0, 16.0, 32.0], [1.0, 64.0]]
    >>> outwards([1.0, 2.0, 4.0, 8.0, 16.0], 2.0)
    [[1.0, 2.0, 4.0, 8.0], [16.0]]
    """
    ordered = sorted(learning_rates)
    place = min(range(len(ordered)), key=lambda at: abs(math.log(ordered[at] / best)))
    rings = [ordered[max(place - NEAREST, 0) : place + NEAREST + 1]]
    below, above = ordered[: max(place - NEAREST, 0)][::-1], ordered[place + NEAREST + 1 :]
    for step in range(max(len(below), len(above))):
        rings.append([side[step] for side in (below, above) if step < len(side)])
    return rings


def _earlier(context: Context, trial: Trial, number: int, validations: int) -> Earlier:
    return Earlier(
        number=number,
        losses=losses_at(context.view, trial, validations),
        completed=trial.record.status == "completed",
        lr=trial.spec.peak_lr,
        batch_size=trial.spec.global_batch_size,
    )
