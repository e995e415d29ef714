"""Dropout moves the gap between training and validation, and the best learning rate."""

from __future__ import annotations

import math
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.laws.optimal_lr.factor_law import move_of_optimum
from lrscale.store import Trial
from lrscale.study.cells import at_best_lr
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, power_text, share_text
from lrscale.study.rules.evidence import Evidence

NEEDS = "experiments.factors with a dropout of the model, for example task.model.init_args.dropout: [0, 0.2]"
LEAST_MOVE = 1.25
"""Factor by which the best LR must move to count as moved."""


@final
class DropoutMovesGap(AbstractRule):
    """By how much of the loss the gap is smaller with the most dropout than with the least, each at its best LR."""

    key: ClassVar[str] = "dropout_gap"
    claim: ClassVar[str] = "Dropout narrows the gap between training and validation"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        factor = evidence.factor("dropout")
        if factor is None:
            return Ruling.untold("No trial has another dropout.", NEEDS)
        ends = (factor[0], factor[-1])
        gaps = [
            {seed: gap for seed, one in at_best_lr(level.fit, level.trials).items() if (gap := _gap(one)) is not None}
            for level in ends
        ]
        common = sorted(gaps[0].keys() & gaps[1].keys())
        scale = abs(ends[0].fit.min_loss or 0.0) or 1.0
        claim = Claim.of_pairs([(gaps[0][seed] - gaps[1][seed]) / scale for seed in common], threshold=evidence.margin)
        if claim is None:
            return Ruling.untold(
                f"{len(common)} seeds have a training and a validation loss with {ends[0].label} and with "
                f"{ends[1].label}, and two are needed.",
                "experiments.factors.seeds of 3 or more",
            )
        return Ruling(
            claim=claim,
            sentence=f"From {ends[0].label} to {ends[1].label} the gap between validation and training loss moves by "
            f"{share_text(claim.negated())} of the loss, each at its own best learning rate.",
            effect=f"gap {share_text(claim.negated())} of the loss",
            breaks="the training loss is taken with units dropped, which raises it by itself",
            margin=f"narrower by more than {100 * evidence.margin:g} % of the loss",
            scope=f"{len(common)} paired seeds",
            needs="experiments.factors.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="of the loss",
        )


@final
class DropoutMovesLR(AbstractRule):
    """By what factor the best LR differs between the most dropout and the least, in either direction."""

    key: ClassVar[str] = "dropout_lr"
    claim: ClassVar[str] = "Dropout moves the best learning rate"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        factor = evidence.factor("dropout")
        if factor is None:
            return Ruling.untold("No trial has another dropout.", NEEDS)
        low, high = factor[0], factor[-1]
        if low.fit.best_lr is None or high.fit.best_lr is None:
            return Ruling.untold(
                f"The best learning rate with {low.label} or with {high.label} lies outside of those tried.",
                "experiments.factors.max_learning_rates raised",
            )
        moved = move_of_optimum(low.fit, high.fit)
        claim = Claim.of_magnitude(moved, threshold=math.log(LEAST_MOVE))
        lo, middle, hi = (math.exp(value) for value in np.percentile(moved, [2.5, 50, 97.5]))
        shown = Claim(value=middle, lo=lo, hi=hi, threshold=LEAST_MOVE, p_below=1.0, p_above=1.0)
        return Ruling(
            claim=claim,
            sentence=f"From {low.label} to {high.label} the best learning rate moves by a factor of "
            f"{power_text(shown)}.",
            effect=f"factor {power_text(shown)}",
            margin=f"a factor above {LEAST_MOVE:g} in either direction",
            scope=f"{low.fit.n_runs + high.fit.n_runs} trials",
            needs="experiments.factors.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="ln of the factor",
        )


def _gap(trial: Trial) -> float | None:
    record = trial.record
    if record.final_loss is None or record.final_train_loss is None or record.monitor == "train_loss":
        return None
    return record.final_loss - record.final_train_loss


RULES.register(DropoutMovesGap.key)(DropoutMovesGap())
RULES.register(DropoutMovesLR.key)(DropoutMovesLR())
