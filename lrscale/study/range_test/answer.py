"""What a range test found, in sentences, numbers and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.laws import FitStatus, RangeFinding
from lrscale.laws.range_test.confirmation import Confirmation, RuleAgreement
from lrscale.recipe.experiments import RangeTest as RangeTestSettings
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.range_test.ramps import Ramps
from lrscale.study.words import interval_text, number

RULE_NAMES = {
    "steepest": "steepest descent",
    "valley": "valley",
    "slide": "slide",
    "minimum_over_ten": "minimum / 10",
    "edge_over_five": "edge / 5",
}
"""The rules as people call them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer:
    """What the range test says at one batch size."""

    ramps: Ramps
    found: RangeFinding | None
    """None when no ramp left a curve."""
    confirmation: Confirmation | None
    """None when it was not asked for, or not yet."""
    trial_ids: tuple[str, ...]
    """Ramps and confirmations."""

    @property
    def batch_size(self) -> int:
        """Global batch size, in examples."""
        return self.ramps.batch_size

    @property
    def lr(self) -> float | None:
        """The confirmed LR."""
        return None if self.confirmation is None else self.confirmation.lr

    def data(self, settings: RangeTestSettings) -> dict[str, Any]:
        """Return what figures are drawn from."""
        found = self.found
        lo, hi = (None, None) if found is None else found.bracket
        return {
            "batch_size": self.batch_size,
            "curves": self.ramps.rows(),
            "bracket": None if lo is None else [lo, settings.lr_max if hi is None else hi],
            "unstable_at": hi,
            "suggestions": {} if found is None else found.to_dict()["suggestions"],
            "initial_loss": None if found is None else _mean([curve.initial for curve in found.curves]),
            "noise_sd": None if found is None else _mean([curve.noise_sd for curve in found.curves]),
            "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
        }

    def row(self) -> dict[str, Any]:
        """Return the answer as a row of a table over batch sizes."""
        found, sure = self.found, self.confirmation
        interval = None if sure is None else sure.interval
        same = (None, None) if sure is None or sure.equivalence is None else sure.equivalence
        stable = None if sure is None else sure.stable
        cycle = None if sure is None else sure.one_cycle
        warmup = None if sure is None else sure.warmup
        return {
            "batch_size": self.batch_size,
            "begins_to_fall": None if found is None else found.bracket[0],
            "unstable_at": None if found is None else found.bracket[1],
            "status": "unconfirmed" if sure is None else sure.status.value,
            "lr": self.lr,
            "lr_lo": None if interval is None else interval.lo,
            "lr_hi": None if interval is None else interval.hi,
            "equivalent_lo": same[0],
            "equivalent_hi": same[1],
            "lowest_tested": None if sure is None else sure.lowest_tested,
            "trained_up_to": None if stable is None else stable.lo,
            "diverged_at": None if stable is None else stable.hi,
            "one_cycle_base": None if cycle is None else cycle.base,
            "one_cycle_max": None if cycle is None else cycle.max,
            "warmup_steps": None if warmup is None else warmup.steps,
            "warmup_examples": None if warmup is None else warmup.examples,
            "runs": 0 if sure is None else len(sure.runs),
        }


def range_finding(
    key: str,
    title: str,
    answers: Sequence[RangeAnswer],
    settings: RangeTestSettings,
    *,
    steps: int | None,
) -> Finding:
    """Return the finding of a family of range tests.

    Parameters
    ----------
    key, title : str
        Of the experiment.
    answers : sequence of RangeAnswer
        One for each batch size; the first stands for all of them.
    settings : RangeTestSettings
        As the recipe has them.
    steps : int or None
        Length of the runs that confirm, at the first batch size; None when there are none.
    """
    first = answers[0]
    trial_ids = tuple(trial_id for answer in answers for trial_id in answer.trial_ids)
    member = first.data(settings)
    data = {
        "batch_size": first.batch_size,
        "monitor": "train_loss" if settings.monitor is None else first.ramps.monitor,
        "bracket": member["bracket"],
        "lr": first.lr,
        "steps": settings.steps,
        "confirm_steps": steps,
        "family": [member, *(answer.data(settings) for answer in answers[1:])],
    }
    if first.found is None or first.found.bracket[0] is None:
        return Finding(
            key=key,
            title=title,
            status="cannot_tell",
            sentence=_refusal(first),
            checks=tuple(_checks(answers, settings)),
            data=data,
            trial_ids=trial_ids,
        )
    return Finding(
        key=key,
        title=title,
        status="ok",
        sentence=_sentence(answers, settings, steps),
        numbers=_numbers(first),
        tables={
            "batch_sizes": tuple(answer.row() for answer in sorted(answers, key=lambda one: one.batch_size)),
            "rules": tuple(_rule_rows(answers)),
        },
        checks=tuple(_checks(answers, settings)),
        data=data,
        trial_ids=trial_ids,
    )


def _refusal(answer: RangeAnswer) -> str:
    if answer.found is None:
        return f"The range test gave no curve: {answer.ramps.reason or 'no ramp has run'}."
    return f"At batch {answer.batch_size} the range test brackets no learning rate: {answer.found.reason}"


def _sentence(answers: Sequence[RangeAnswer], settings: RangeTestSettings, steps: int | None) -> str:
    first = answers[0]
    found, sure = first.found, first.confirmation
    assert found is not None
    lo, hi = found.bracket
    edge = f"becomes unstable at {number(hi)}" if hi is not None else f"is stable up to {number(settings.lr_max)}"
    scope = f"{settings.seeds} seed{'s' if settings.seeds > 1 else ''}, {settings.steps} steps each"
    ramps = f"the loss begins to fall at {number(lo)} and training {edge} ({scope})"
    if sure is None:
        told = "no run at fixed LR has confirmed a suggestion" if settings.confirm else "suggestions are untested"
        return f"At batch {first.batch_size} {ramps}; {told}. The bracket says where to sweep; the sweep decides."
    if sure.lr is None or sure.interval is None:
        best = "" if sure.lowest_tested is None else f"; the lowest of those tried is {number(sure.lowest_tested)}"
        return (
            f"At batch {first.batch_size}, {len(sure.runs)} runs at fixed LR confirm no learning rate: "
            f"{sure.reason.rstrip('.')}{best}. On the ramps {ramps}."
        )
    seeds = len({run.seed for run in sure.runs})
    sentence = (
        f"At batch {first.batch_size} a fixed LR of {number(sure.lr)} ends lowest "
        f"({interval_text(sure.interval.lo, sure.interval.hi)}; {len(sure.runs)} runs over {seeds} "
        f"seed{'s' if seeds > 1 else ''}, {steps} steps each); on the ramps {ramps}."
    )
    if sure.agreement:
        nearest = sure.agreement[0]
        sentence += (
            f" Of the rules {RULE_NAMES.get(nearest.rule, nearest.rule)} came nearest, at {number(nearest.factor)} "
            "times that LR."
        )
    if sure.stable is not None and sure.stable.hi is not None:
        warm = sure.stable.warmup_steps
        sentence += (
            f" With {warm} step{'s' if warm != 1 else ''} of warm-up every run trained up to {number(sure.stable.lo)}, "
            f"and not at {number(sure.stable.hi)}."
        )
    others = [f"{number(answer.lr)} at batch {answer.batch_size}" for answer in answers[1:] if answer.lr is not None]
    return f"{sentence} The best fixed LR is {' and '.join(others)}." if others else sentence


def _numbers(answer: RangeAnswer) -> dict[str, Quantity]:
    found, sure = answer.found, answer.confirmation
    assert found is not None
    numbers = {
        "begins_to_fall": Quantity(value=found.lo.value, lo=found.lo.lo, hi=found.lo.hi),
        "unstable_at": Quantity(value=found.hi.value, lo=found.hi.lo, hi=found.hi.hi),
    }
    if sure is None:
        return numbers
    if sure.lr is not None and sure.interval is not None:
        numbers["confirmed_lr"] = Quantity(value=sure.lr, lo=sure.interval.lo, hi=sure.interval.hi)
    if sure.stable is not None:
        numbers["max_stable_lr"] = Quantity(value=sure.stable.lo, lo=sure.stable.lo, hi=sure.stable.hi)
    if sure.one_cycle is not None:
        numbers["one_cycle_base"] = Quantity(value=sure.one_cycle.base)
        numbers["one_cycle_max"] = Quantity(value=sure.one_cycle.max)
    if sure.warmup is not None:
        numbers["warmup"] = Quantity(value=sure.warmup.steps, unit="steps")
    return numbers


def _rule_rows(answers: Sequence[RangeAnswer]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for answer in sorted(answers, key=lambda one: one.batch_size):
        if answer.found is None:
            continue
        judged: dict[str, RuleAgreement] = {}
        if answer.confirmation is not None:
            judged = {row.rule: row for row in answer.confirmation.agreement}
        for rule, own in answer.found.suggestions.items():
            row = judged.get(rule)
            rows.append(
                {
                    "batch_size": answer.batch_size,
                    "rule": rule,
                    "lr": own.value,
                    "lo": own.lo,
                    "hi": own.hi,
                    "standing": _standing(row),
                    "factor": None if row is None else row.factor,
                    "regret": None if row is None else row.regret,
                    "regret_lo": None if row is None else row.regret_lo,
                    "regret_hi": None if row is None else row.regret_hi,
                }
            )
    return rows


def _standing(row: RuleAgreement | None) -> str:
    if row is None or not row.tested:
        return "untested"
    if row.equivalent is None:
        return "undecided"
    return "not told apart" if row.equivalent else "worse"


def _checks(answers: Sequence[RangeAnswer], settings: RangeTestSettings) -> list[Check]:
    checks = []
    first = answers[0]
    if first.found is not None and first.found.bracket[0] is not None and first.found.bracket[1] is None:
        checks.append(
            Check(
                name="ramp reaches divergence",
                status="INFO",
                sentence=f"No ramp diverged up to its end at {settings.lr_max:.2g}.",
                remedy="raise experiments.range_test.lr_max to find the edge of stability",
            )
        )
    for answer in answers:
        if answer.found is None or answer.found.bracket[0] is None:
            if answer is not first:
                checks.append(
                    Check(
                        name=f"ramps informative at batch {answer.batch_size}",
                        status="WARNING",
                        sentence=_refusal(answer),
                        remedy="raise experiments.range_test.steps, or lower lr_min",
                    )
                )
            continue
        checks.append(_confirmed(answer, settings))
    return checks


def _confirmed(answer: RangeAnswer, settings: RangeTestSettings) -> Check:
    name, sure = f"LR confirmed at batch {answer.batch_size}", answer.confirmation
    if sure is None:
        return Check(
            name=name,
            status="INFO",
            sentence="Every suggestion is untested: no runs at fixed LR were asked for.",
            remedy="set experiments.range_test.confirm",
        )
    if sure.ok:
        return Check(name=name, status="PASS", sentence=sure.reason)
    limit = settings.confirm.max_runs if settings.confirm is not None else 0
    remedy = {
        FitStatus.NOT_IDENTIFIABLE: "raise experiments.range_test.confirm.steps or confirm.seeds",
        FitStatus.POOR_FIT: "raise experiments.range_test.confirm.seeds",
        FitStatus.ALL_DIVERGED: "lower experiments.range_test.lr_min, or look at the module at a small LR",
    }.get(sure.status, f"raise experiments.range_test.confirm.max_runs above {limit}")
    return Check(name=name, status="WARNING", sentence=sure.reason, remedy=remedy)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
