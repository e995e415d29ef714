"""Which runs of a slice are too far above the lowest to say where the minimum lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lrscale.laws.runs import Runs

NEAR = 5
"""LRs with the lowest median loss, whose excess is the measure of how far another one lies."""
FAR = 10.0
"""Multiple of the excess of the last of them beyond which an LR is far.

Losses between an untrained model and one that has learned span hundreds of times what the LRs near the best one do, and
level out at both ends: no power of the LR does. With all of twelve LRs, intervals of the best LR of such slices covered
74 %, without the far ones 93 to 95 % (`benchmarks/coverage_slices.py`). A slice in the model's own form rarely has any.
"""
_BESIDE = 2


def without_far(runs: Runs) -> tuple[Runs, np.ndarray]:
    """Return the runs without those at far LRs, and their rows.

    Two LRs on each side of the lowest one stay, and so does every LR between others that stay. Diverged runs stay: they
    are bounds.

    Parameters
    ----------
    runs : Runs
        With at least one finished run.

    Examples
    --------
    >>> from lrscale.laws.runs import read_runs
    >>> losses = [2.3, 1.4, 0.16, 0.08, 0.06, 0.04, 0.03, 0.06, 0.1, 1.3, 2.3]
    >>> kept, rows = without_far(read_runs([2.0**k for k in range(11)], losses, None, None))
    >>> rows.tolist()
    [2, 3, 4, 5, 6, 7, 8]
    """
    everything = np.arange(runs.lr.size)
    lr, loss = runs.lr[runs.kept], runs.loss[runs.kept]
    distinct = np.unique(lr)
    if distinct.size <= NEAR:
        return runs, everything
    medians = np.array([float(np.median(loss[lr == value])) for value in distinct])
    lowest = int(np.argmin(medians))
    excess = medians - medians[lowest]
    stay = np.flatnonzero(excess <= FAR * np.sort(excess)[NEAR - 1])
    first = min(int(stay[0]), max(lowest - _BESIDE, 0))
    last = max(int(stay[-1]), min(lowest + _BESIDE, distinct.size - 1))
    rows = np.flatnonzero(runs.diverged | ((runs.lr >= distinct[first]) & (runs.lr <= distinct[last])))
    if rows.size == runs.lr.size:
        return runs, everything
    seeds = tuple(runs.seeds[row] for row in rows)
    return replace(runs, lr=runs.lr[rows], loss=runs.loss[rows], diverged=runs.diverged[rows], seeds=seeds), rows
