"""Whether the loss spikes near the recommended LR."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.report.checks.base import AbstractCheck
from lrscale.report.stability_data import is_near, spikes_of
from lrscale.report.words import count, plural, rate, significant
from lrscale.study.finding import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrscale.laws.stability import Spike, Spikes
    from lrscale.report.context import ReportContext
    from lrscale.store.view import Trial

NEAR = 1.5
"""Factor around the recommended LR; the next LR of a lattice of ratio 2 lies beyond, half a step of it within."""
TOO_MANY = 0.5
"""Share of the trials with spikes from which on they are the rule and not an accident of one batch."""


@final
class SpikesCheck(AbstractCheck):
    """Count the spikes of the trials near the recommended LR, or of all trials at a fixed peak LR without one.

    Status Logic
    ------------
    WARNING when a spike did not come back, or at least half of the trials near the recommended LR have one; INFO when
    any has; PASS when none has. Not asked where spikes were not looked for.
    """

    name: ClassVar[str] = "loss spikes"

    @override
    def run(self, context: ReportContext) -> Check | None:
        fixed = context.trials_where(lambda trial: trial.spec.schedule.name != "ramp" and trial.spec.layout is None)
        watched = [(trial, found) for trial in fixed if (found := spikes_of(trial)) is not None]
        near = [pair for pair in watched if is_near(pair[0], context.recommendation, NEAR)]
        chosen = near or watched
        if not chosen:
            return None
        where = f"near the recommended LR {_lr(context)}" if near else "at a fixed peak LR"
        seen = [(trial, spike) for trial, found in chosen for spike in found.spikes]
        if not seen:
            sentence = f"None of {plural(len(chosen), 'trial')} {where} has a spike of its loss."
            return Check(name=self.name, status="PASS", sentence=sentence + _elsewhere(watched if near else []))
        spiked = {trial.trial_id for trial, _ in seen}
        lasting = sum(spike.recovered is False for _, spike in seen)
        sentence = f"{len(spiked)} of {plural(len(chosen), 'trial')} {where} have {plural(len(seen), 'loss spike')}, "
        sentence += _largest(*max(seen, key=lambda pair: pair[1].height))
        sentence += f"; {lasting} did not come back." if lasting else "; all came back or stood at the end."
        serious = near and (lasting or len(spiked) >= TOO_MANY * len(chosen))
        if not serious:
            return Check(name=self.name, status="INFO", sentence=sentence)
        return Check(
            name=self.name,
            status="WARNING",
            sentence=sentence,
            remedy=f"Start with the low end of the equivalent range, {_low(context)}; or lengthen the warm-up "
            "(`experiments.scaling.warmup_fraction`), or clip gradients (`task.trainer.gradient_clip_val`).",
        )


def _largest(trial: Trial, spike: Spike) -> str:
    return (
        f"the largest {significant(spike.height)} robust standard deviations high (step {count(spike.step)}, "
        f"LR {rate(trial.spec.peak_lr)}, batch {count(trial.spec.global_batch_size)})"
    )


def _elsewhere(watched: Sequence[tuple[Trial, Spikes]]) -> str:
    spiky = [trial.spec.peak_lr for trial, found in watched if found.spikes]
    return f" Elsewhere spikes begin at LR {rate(min(spiky))}." if spiky else ""


def _lr(context: ReportContext) -> str:
    return rate(context.recommended("lr", {}).get("value"))


def _low(context: ReportContext) -> str:
    ends = context.recommended("equivalent_lr") or (None,)
    return rate(ends[0])
