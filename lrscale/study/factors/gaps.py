"""The gap between validation and training loss at the best LR of each value of a factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lrscale.laws import LRSliceFit
from lrscale.laws.claim import Claim
from lrscale.store import Trial
from lrscale.study.cells import at_best_lr


def gaps_at_best(fit: LRSliceFit, trials: Sequence[Trial]) -> dict[int, float]:
    """Return validation minus training loss by seed, at the LR nearest to the best one; none without validation."""
    found = {}
    for seed, trial in at_best_lr(fit, trials).items():
        record = trial.record
        if record.final_loss is not None and record.final_train_loss is not None and record.monitor != "train_loss":
            found[seed] = record.final_loss - record.final_train_loss
    return found


def mean_gap(gaps: Mapping[int, float]) -> tuple[float | None, float | None, float | None]:
    """Return the mean over seeds and its 95 % interval."""
    values = list(gaps.values())
    claim = Claim.of_pairs(values)
    if claim is not None:
        return claim.value, claim.lo, claim.hi
    return (values[0] if values else None), None, None


def change_of_gap(first: Mapping[int, float], last: Mapping[int, float]) -> Claim | None:
    """Return how the gap changes from one value to another, paired by seed; None for fewer than two common seeds."""
    common = sorted(first.keys() & last.keys())
    return Claim.of_pairs([float(np.subtract(last[seed], first[seed])) for seed in common])
