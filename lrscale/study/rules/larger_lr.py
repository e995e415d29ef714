"""Larger batches allow larger learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws import LRSliceFit, OptimalLRFit
from lrscale.laws.base import FloatArray
from lrscale.laws.claim import Claim
from lrscale.laws.optimal_lr.factor_law import move_of_optimum
from lrscale.laws.optimal_lr.law_mixture import mixed_lr
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, power_text
from lrscale.study.rules.evidence import Evidence

LEAST_POWER = 0.1
"""A power below which the LR counts as constant: a factor of 1.26 in the LR for ten times the batch."""


@final
class LargerLR(AbstractRule):
    """The mean power of the best LR in the batch size, over the batch sizes whose optimum was located.

    Published rules have powers of 1 (Goyal et al. 2017, arXiv:1706.02677) and of a half (Krizhevsky 2014,
    arXiv:1404.5997; for Adam, Malladi et al. 2022, arXiv:2205.10287).
    """

    key: ClassVar[str] = "larger_lr"
    claim: ClassVar[str] = "Larger batches allow larger learning rates"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        sizes = list(evidence.located)
        if len(sizes) < 2:
            return Ruling.untold(
                f"{len(sizes)} batch sizes have their best learning rate inside the rates tried, and two are needed.",
                "experiments.scaling.batch_sizes with three sizes or more, spanning a factor of 8",
            )
        small, large = sizes[0], sizes[-1]
        claim = Claim.of_draws(_powers(evidence.law, evidence.located, small, large), threshold=LEAST_POWER)
        sentence = f"From batch {small:,} to {large:,} the best learning rate grows as batch to the power "
        sentence += f"{power_text(claim)}."
        needs = ""
        if claim.verdict == "cannot tell":
            needs = "more seeds (experiments.scaling.seeds), or batch sizes further apart"
        return Ruling(
            claim=claim,
            sentence=sentence,
            effect=f"power {power_text(claim)}",
            margin=f"a power above {LEAST_POWER:g}",
            scope=evidence.scope,
            breaks=_breaks(evidence.law, small, large),
            needs=needs,
            unit="power",
        )


def _powers(law: OptimalLRFit | None, slices: Mapping[int, LRSliceFit], small: int, large: int) -> FloatArray:
    """Return draws of the mean power: of the law through all slices, or of the two slices alone."""
    span = math.log(large / small)
    if law is not None:
        lrs = np.log(mixed_lr(law.draws, np.array([small, large], dtype=np.float64)))
        powers: FloatArray = (lrs[:, 1] - lrs[:, 0]) / span
        return powers
    alone: FloatArray = move_of_optimum(slices[small], slices[large]) / span
    return alone


def _breaks(law: OptimalLRFit | None, small: int, large: int) -> str:
    if law is None:
        return ""
    rules = {one.rule: one for one in law.rules}
    told = [rules[name].text() for name in ("linear", "sqrt", "square_root") if name in rules]
    slope, lo, hi = law.local_slope([small, large])
    bend = (
        f"the power falls from {slope[0]:.2f} ({lo[0]:.2f} to {hi[0]:.2f}) at batch {small:,} "
        f"to {slope[1]:.2f} ({lo[1]:.2f} to {hi[1]:.2f}) at {large:,}"
        if hi[1] < lo[0]
        else ""
    )
    return "; ".join(filter(None, [bend, *told]))


RULES.register(LargerLR.key)(LargerLR())
