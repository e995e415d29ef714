"""A large learning rate generalises better."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.store import Trial
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, share_text
from lrscale.study.rules.evidence import Evidence, listed

REACH = 4.5
"""Factor around the best LR within which trials count: two neighbours on each side where they are a factor 2 apart."""
FEWEST_LRS = 3


@final
class Generalisation(AbstractRule):
    """How the gap between validation and training loss changes with the LR, around the best one.

    Far below it the gap is small because nothing was fitted yet. At the best LR the validation loss does not change to
    first order, so that a gap that falls there means a training loss that rises: the larger LR keeps from fitting what
    does not carry over. The same says, without units, that the LR of the lowest validation loss lies above that of the
    lowest training loss. Slopes are taken seed by seed and averaged over batch sizes.
    """

    key: ClassVar[str] = "generalisation"
    claim: ClassVar[str] = "A larger learning rate generalises better"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        if not evidence.monitored:
            return Ruling.untold("Trials are compared by their training loss.", "validation data, and task.monitor")
        slopes: dict[int, list[float]] = defaultdict(list)
        used = []
        for size, fit in evidence.located.items():
            assert fit.best_lr is not None and fit.min_loss is not None
            own = _slopes(evidence.trials.get(size, ()), fit.best_lr, abs(fit.min_loss) or 1.0)
            if len(own) >= 2:
                used.append(size)
                for seed, slope in own.items():
                    slopes[seed].append(slope)
        # A seed that lacks a batch size would bring the difference between batch sizes into that between seeds.
        whole = [float(np.mean(own)) for own in slopes.values() if len(own) == len(used)]
        claim = Claim.of_pairs(whole, threshold=evidence.margin)
        if claim is None:
            return Ruling.untold(
                f"{len(whole)} seeds have a training and a validation loss at {FEWEST_LRS} learning rates around the "
                "best, and two are needed.",
                "experiments.scaling.seeds of 3 or more",
            )
        change = share_text(claim.negated())
        return Ruling(
            claim=claim,
            sentence=f"Around the best learning rate each doubling of it moves the gap between validation and training "
            f"loss by {change} of the loss.",
            effect=f"gap {change} of the loss a doubling",
            margin=f"a gap that falls by more than {100 * evidence.margin:g} % of the loss for each doubling",
            scope=f"batch {listed(used)}; {len(whole)} seeds; {evidence.scope.partition(', ')[2]}",
            needs="experiments.scaling.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="of the loss",
        )


def _slopes(trials: tuple[Trial, ...], best: float, level: float) -> Mapping[int, float]:
    """Return for each seed by how much of the loss the gap falls with each doubling of the LR."""
    points: dict[int, dict[float, float]] = defaultdict(dict)
    for trial in trials:
        record, lr = trial.record, trial.spec.peak_lr
        known = record.status == "completed" and record.final_loss is not None and record.final_train_loss is not None
        if known and abs(math.log(lr / best)) <= math.log(REACH):
            assert record.final_loss is not None and record.final_train_loss is not None
            points[trial.spec.seed][lr] = (record.final_loss - record.final_train_loss) / level
    # Over the same LRs for every seed: the slope is no constant.
    counts: dict[float, int] = defaultdict(int)
    for own in points.values():
        for lr in own:
            counts[lr] += 1
    common = sorted(lr for lr, count in counts.items() if count == max(counts.values(), default=0))
    if len(common) < FEWEST_LRS:
        return {}
    at = np.log2(np.array(common))
    return {
        seed: -float(np.polyfit(at, [own[lr] for lr in common], 1)[0])
        for seed, own in points.items()
        if all(lr in own for lr in common)
    }


RULES.register(Generalisation.key)(Generalisation())
