"""Noisier data want earlier stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.store import Trial
from lrscale.study.cells import at_best_lr
from lrscale.study.rules.base import RULES, AbstractRule, Ruling
from lrscale.study.rules.evidence import Evidence, listed

MARGIN = 0.02
"""Share of the run by which the best validation must move to count as earlier: less than most gaps between two."""
NEEDS = "experiments.factors with the share of wrong labels, for example task.data.init_args.label_noise: [0, 0.2]"


@final
class EarlyStopping(AbstractRule):
    """By what share of the run the best validation comes earlier with the noisiest labels than with the cleanest."""

    key: ClassVar[str] = "early_stopping"
    claim: ClassVar[str] = "Noisier data want earlier stopping"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        factor = evidence.factor("label_noise")
        if factor is None:
            return Ruling.untold(_seen(evidence), NEEDS)
        clean, noisy = factor[0], factor[-1]
        shares = [best_places(evidence, at_best_lr(level.fit, level.trials)) for level in (clean, noisy)]
        common = sorted(shares[0].keys() & shares[1].keys())
        claim = Claim.of_pairs([shares[0][seed] - shares[1][seed] for seed in common], threshold=MARGIN)
        if claim is None:
            return Ruling.untold(
                f"{len(common)} seeds have validations at both ends of {clean.label} to {noisy.label}, and two are "
                "needed.",
                "experiments.factors.seeds of 3 or more",
            )
        first, last = (float(np.mean([one[seed] for seed in common])) for one in shares)
        assert claim.lo is not None and claim.hi is not None
        return Ruling(
            claim=claim,
            effect=f"{100 * claim.value:.0f} points of the run earlier ({100 * claim.lo:.0f} to {100 * claim.hi:.0f})",
            sentence=f"With {noisy.label} validation is best at {100 * last:.0f} % of the run, with {clean.label} at "
            f"{100 * first:.0f} %: earlier by {100 * claim.value:.0f} points ({100 * claim.confidence:.0f} % "
            f"{100 * claim.lo:.0f} to {100 * claim.hi:.0f}).",
            margin=f"earlier by more than {100 * MARGIN:g} % of the run",
            scope=f"{len(common)} paired seeds, each level at its own best learning rate",
            needs="experiments.factors.seeds raised by 2" if claim.verdict == "cannot tell" else "",
            unit="of the run",
        )


def best_places(evidence: Evidence, runs: Mapping[int, Trial]) -> dict[int, float]:
    """Return for each seed the share of the run at which its validation loss is lowest."""
    found = {}
    for seed, trial in runs.items():
        steps, losses = evidence.trajectory(trial).points("val_loss")
        if losses.size >= 2 and np.isfinite(losses).any():
            found[seed] = float(steps[int(np.nanargmin(losses))]) / trial.spec.horizon
    return found


def _seen(evidence: Evidence) -> str:
    """Say where validation is best in the sweep: what can be told without data of another noise."""
    told = {}
    for size in evidence.located:
        places = list(best_places(evidence, evidence.at_best_lr(size)).values())
        if places:
            told[size] = sum(places) / len(places)
    if not told:
        return "No trial has data of another noise."
    if min(told.values()) >= 1 - 1e-9:
        seen = f"at the end of the run in all trials of batch {listed(list(told))}"
    else:
        seen = ", ".join(f"at {100 * share:.0f} % of the run at batch {size:,}" for size, share in told.items())
    return f"No trial has data of another noise; at the best learning rates validation is lowest {seen}."


RULES.register(EarlyStopping.key)(EarlyStopping())
