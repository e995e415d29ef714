"""A low learning rate is slow."""

from __future__ import annotations

import math
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.laws.lr_slice.basin import basin
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, share_text
from lrscale.study.rules.evidence import Evidence
from lrscale.study.words import number

BELOW = 4.0
"""How many times below the best LR a low one lies."""


@final
class LowLR(AbstractRule):
    """Loss at a quarter of the best LR, above the lowest one, after the same examples."""

    key: ClassVar[str] = "low_lr"
    claim: ClassVar[str] = "A low learning rate is slow"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        if not evidence.located:
            return Ruling.untold(
                "No batch size has its best learning rate inside the rates tried.", "experiments.scaling"
            )
        size, fit = min(evidence.located.items(), key=lambda one: one[1].min_loss or math.inf)
        assert fit.best_lr is not None and fit.min_loss is not None
        tried = min(lr for lr, loss in zip(fit.lr, fit.loss, strict=True) if loss is not None)
        if len(fit.curve_draws) < 2 or tried > fit.best_lr / math.sqrt(BELOW):
            return Ruling.untold(
                f"At batch {size:,} nothing was trained below {number(tried)}, and the best learning rate is "
                f"{number(fit.best_lr)}.",
                f"experiments.scaling.learning_rates that reach down to {number(fit.best_lr / BELOW)}",
            )
        # Below what was tried a slice is an extrapolation.
        lr = max(tried, fit.best_lr / BELOW)
        vertex, p, q, curvature, _ = np.asarray(fit.curve_draws).T
        regret = curvature * basin(math.log(lr) - vertex, p, q) / (abs(fit.min_loss) or 1.0)
        claim = Claim.of_draws(regret, threshold=evidence.margin)
        return Ruling(
            claim=claim,
            sentence=f"At batch {size:,} a peak learning rate of {number(lr)}, {fit.best_lr / lr:.2g} times below the "
            f"best one, ends {share_text(claim)} from the lowest loss after the same examples.",
            effect=f"{share_text(claim)} of the loss",
            margin=f"higher by more than {100 * evidence.margin:g} % of the loss",
            scope=evidence.scope,
            needs="experiments.scaling.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="of the loss",
        )


RULES.register(LowLR.key)(LowLR())
