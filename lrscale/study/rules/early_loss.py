"""Larger batches have a lower early loss: by the step, and by the example."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws.claim import Claim
from lrscale.store import Trial
from lrscale.study.rules.base import RULES, AbstractRule, Ruling, share_text
from lrscale.study.rules.evidence import Evidence, Pair, training_loss
from lrscale.study.words import number

EARLY_STEPS = 0.5
"""Share of the steps of the largest batch at which trials are compared by the step: early for all smaller ones."""
EARLY_EXAMPLES = 0.2
"""Share of the examples at which they are compared by the example: behind the usual warm-ups."""
WINDOW = 0.2
"""Length of the window that ends there, as a share of what was trained until then."""


@final
class EarlyLossBySteps(AbstractRule):
    """Relative difference of the training losses after equally many steps, each batch size at its own best LR."""

    key: ClassVar[str] = "early_loss_steps"
    claim: ClassVar[str] = "Larger batches have a lower early loss after the same number of steps"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        def end_of(pair: Pair) -> float:
            return EARLY_STEPS * min(large.spec.horizon for _, large in pair.runs.values())

        return _judged(evidence, end_of, "step")


@final
class EarlyLossByExamples(AbstractRule):
    """Relative difference of the training losses after equally many examples, each batch size at its own best LR."""

    key: ClassVar[str] = "early_loss_examples"
    claim: ClassVar[str] = "Larger batches have a lower early loss after the same number of examples"

    @override
    def judge(self, evidence: Evidence) -> Ruling:
        def end_of(pair: Pair) -> float:
            return EARLY_EXAMPLES * min(trial.spec.examples for both in pair.runs.values() for trial in both)

        return _judged(evidence, end_of, "examples")


def _judged(evidence: Evidence, end_of: Callable[[Pair], float], against: str) -> Ruling:
    sizes = list(evidence.located)
    pair = evidence.pair(sizes)
    warm = ""
    while pair is not None:
        end = end_of(pair)
        start = (1 - WINDOW) * end
        late = {trial.spec.global_batch_size for trial in _all(pair) if _warmed_up(trial, against) > start}
        if not late:
            break
        # In its warm-up a trial does not have the LR that it is compared at.
        warm = (
            f"the warm-up of batch {min(late):,} lasts until {number(max(_warmed_up(t, against) for t in _all(pair)))}"
        )
        sizes = [size for size in sizes if size not in late]
        pair = evidence.pair(sizes)
    if pair is None:
        why = f": {warm} {against if against == 'examples' else 'steps'}" if warm else ""
        return Ruling.untold(
            f"No two batch sizes have two seeds in common at their best learning rates{why}.",
            "a shorter experiments.scaling.warmup_fraction" if warm else "experiments.scaling.seeds of 3 or more",
        )
    found = []
    for small, large in pair.runs.values():
        losses = [training_loss(evidence.trajectory(one), start, end, against=against) for one in (small, large)]
        if losses[0] is not None and losses[1] is not None and losses[0] != 0:
            found.append((losses[0] - losses[1]) / abs(losses[0]))
    claim = Claim.of_pairs(found, threshold=evidence.margin)
    if claim is None:
        return Ruling.untold(
            f"{len(found)} pairs of trials have a training loss there, and two are needed.",
            "experiments.scaling.seeds of 3 or more",
        )
    at = f"{number(end)} steps" if against == "step" else f"{number(end, 3)} examples"
    lower, higher = pair.large, pair.small
    sentence = (
        f"After {at} the training loss of batch {lower:,} differs by {share_text(claim.negated())} from that of batch "
        f"{higher:,}, each at its own best learning rate ({number(pair.lrs[1])} and {number(pair.lrs[0])})."
    )
    return Ruling(
        claim=claim,
        sentence=sentence,
        effect=f"{share_text(claim.negated())} of the loss",
        margin=f"lower by more than {100 * evidence.margin:g} % of the loss",
        scope=f"{len(found)} paired seeds, {evidence.scope.partition(', ')[2]}",
        needs="experiments.scaling.seeds raised by 2" if claim.verdict == "cannot tell" else "",
        unit="of the loss",
    )


def _all(pair: Pair) -> list[Trial]:
    return [trial for both in pair.runs.values() for trial in both]


def _warmed_up(trial: Trial, against: str) -> float:
    steps = trial.spec.schedule.warmup_steps
    return float(steps if against == "step" else steps * trial.spec.global_batch_size)


RULES.register(EarlyLossBySteps.key)(EarlyLossBySteps())
RULES.register(EarlyLossByExamples.key)(EarlyLossByExamples())
