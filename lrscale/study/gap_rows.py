"""How far the validation loss of a sweep ends above the training loss, by batch size and LR."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrscale.laws import LRSliceFit
from lrscale.store import Trial
from lrscale.study.factors.gaps import mean_gap

KEY = "gaps"
"""Where the rows lie in the tables of the finding on scaling."""


def gap_rows(by_batch: Mapping[int, Sequence[Trial]], fits: Mapping[int, LRSliceFit]) -> tuple[dict[str, Any], ...]:
    """Return a row for each batch size and LR; none where trials are compared by their training loss.

    Parameters
    ----------
    by_batch : mapping of int to sequence of Trial
        The trials of each batch size. Those count that are complete and have a validation loss.
    fits : mapping of int to LRSliceFit
        Says which LR of each batch size is nearest to the best one.
    """
    rows = []
    for size, trials in by_batch.items():
        ended: dict[float, dict[int, tuple[float, float]]] = defaultdict(dict)
        for trial in trials:
            record = trial.record
            if record.final_loss is None or record.final_train_loss is None or record.monitor == "train_loss":
                continue
            ended[trial.spec.peak_lr][trial.spec.seed] = (record.final_train_loss, record.final_loss)
        best = fits[size].best_lr
        nearest = None if best is None or not ended else min(ended, key=lambda lr: abs(math.log(lr / best)))
        for lr in sorted(ended):
            losses = ended[lr]
            gap, lo, hi = mean_gap({seed: after - before for seed, (before, after) in losses.items()})
            rows.append(
                {
                    "batch_size": size,
                    "lr": lr,
                    "seeds": len(losses),
                    "train_loss": float(np.mean([before for before, _ in losses.values()])),
                    "loss": float(np.mean([after for _, after in losses.values()])),
                    "gap": gap,
                    "lo": lo,
                    "hi": hi,
                    "nearest": lr == nearest,
                }
            )
    return tuple(rows)
