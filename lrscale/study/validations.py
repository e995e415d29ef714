"""The losses of trials at the same share of their horizons, whatever their batch sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from lrscale.store import StudyView, Trajectory, Trial, TrialSpec

LATE = 1e-9
"""Share of a horizon by which rounding may put a validation too early."""


def first_validations(spec: TrialSpec, count: int) -> dict[int, int]:
    """Return the step of the first validation at or after each of `count` equal shares of the horizon.

    Parameters
    ----------
    spec : TrialSpec
        Validated every so many steps and at its horizon.
    count : int
        How many shares, at least 1.

    Returns
    -------
    dict of int to int
        Number of the share, from 1 -> step, from 1. A horizon of few steps has fewer validations than that, and one of
        them then stands for several shares.

    Examples
    --------
    >>> from lrscale.store import ScheduleSpec
    >>> spec = TrialSpec(task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8, horizon=11,
    ...                  seed=0, validate_every=4)
    >>> first_validations(spec, 4)
    {1: 4, 2: 8, 3: 11, 4: 11}
    """
    every = spec.validate_every or spec.horizon
    found = {}
    for place in range(1, count + 1):
        least = spec.horizon * (place / count - LATE)
        found[place] = min(every * max(math.ceil(least / every), 1), spec.horizon)
    return found


def losses_at(view: StudyView, trial: Trial, count: int) -> dict[int, float]:
    """Return the finite losses of a trial at those validations, as far as it came, by the number of the share."""
    known = _validation_losses(view.load_trajectory, trial.trial_id, trial.record.steps)
    places = first_validations(trial.spec, count)
    return {place: known[step] for place, step in places.items() if step in known}


@lru_cache(maxsize=4096)
def _validation_losses(load: Callable[[str], Trajectory], trial_id: str, steps: int) -> dict[int, float]:
    # A plan looks at every finished trial again, and a finished trial is never written again. One that was lost and
    # ran once more may have got further: its steps tell it from the first attempt.
    del steps
    at, losses = load(trial_id).points("val_loss")
    return {int(step): float(loss) for step, loss in zip(at, losses, strict=True) if math.isfinite(loss)}
