"""What trials measured of their stability, as the report reads it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lrscale.laws.stability import SharpnessCourse, Spikes, SpikeStatus

if TYPE_CHECKING:
    from lrscale.store.view import Trial


def spikes_of(trial: Trial) -> Spikes | None:
    """Return the spikes of a trial, or None where they were not looked for or could not be told."""
    measured = trial.record.measurements.get("stability")
    if not measured:
        return None
    try:
        found = Spikes.from_dict(measured)
    except (KeyError, TypeError, ValueError):  # a record of another version costs its row, not the report
        return None
    return found if found.status is SpikeStatus.OK else None


def margins_of(trial: Trial) -> SharpnessCourse | None:
    """Return the margins of a trial to the edge of stability, or None where they were not measured."""
    measured = trial.record.measurements.get("sharpness")
    if not measured:
        return None
    try:
        return SharpnessCourse.from_dict(measured)
    except (KeyError, TypeError, ValueError):  # a record of another version costs its row, not the report
        return None


def is_near(trial: Trial, recommendation: Any, ratio: float) -> bool:
    """Whether a trial has the recommended batch size and an LR within a factor of the recommended one.

    Parameters
    ----------
    trial : Trial
    recommendation : mapping or None
        JSON values of a recommendation.
    ratio : float
        Factor above 1.
    """
    lr = ((recommendation or {}).get("lr") or {}).get("value")
    if not isinstance(lr, (int, float)) or lr <= 0:
        return False
    same = trial.spec.global_batch_size == recommendation.get("global_batch_size")
    return same and abs(math.log(trial.spec.peak_lr / lr)) <= math.log(ratio)
