"""What a search found, in sentences, numbers and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from scipy.special import ndtri, stdtrit

from lrscale.study.finding import Finding, Quantity
from lrscale.study.planner import Choice
from lrscale.study.search.checks import search_checks
from lrscale.study.search.confirming import Conclusion, Confirmation
from lrscale.study.search.course import FEWEST, Course, outlook
from lrscale.study.search.stopping import Stopping
from lrscale.study.words import interval_text, loss_digits, number

if TYPE_CHECKING:
    from lrscale.study.experiments.base import AbstractExperiment

LOSS_DIGITS = 4


def search_finding(experiment: AbstractExperiment, conclusion: Conclusion, engine: Mapping[str, Any]) -> Finding:
    """Return the finding of a search as far as its trials have ended.

    Parameters
    ----------
    experiment : AbstractExperiment
    conclusion : Conclusion
    engine : mapping
        ``name``, ``title`` and ``method`` of who planned it.
    """
    course = conclusion.course
    why_not = cannot_tell(conclusion)
    choice = None if not course.question.settings else conclusion.advice.choice
    setting = Named.of(conclusion, choice) if choice is not None else None
    known = setting is not None and why_not is None
    stopping = Stopping.of(course)
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="ok" if known else "cannot_tell",
        sentence=_sentence(conclusion, setting) if why_not is None and setting is not None else _why(why_not),
        numbers=_numbers(conclusion, setting) if known and setting is not None else {},
        tables={
            "slices": (_slice_row(conclusion, setting),) if known and setting is not None else (),
            "trials": tuple(_trial_rows(conclusion)),
            "confirmation": tuple(_confirmation_rows(conclusion.confirmed)),
            **({} if stopping is None else {"stopped": tuple(stopping.rows())}),
        },
        checks=tuple(search_checks(conclusion, choice)),
        data={
            **_data(conclusion, setting if known else None),
            "needs": None if why_not is None else why_not.needs,
            "engine": dict(engine),
            "stopping": None if stopping is None else stopping.to_dict(),
        },
        trial_ids=tuple(trial.trial_id for trial in conclusion.trials),
    )


@final
@dataclass(frozen=True, slots=True)
class Untold:
    """Why no setting can be named."""

    sentence: str
    """With what it would take, in words."""
    needs: str
    """The same as something to do, with its command where there is one."""


def cannot_tell(conclusion: Conclusion) -> Untold | None:
    """Return why no setting can be named, and what it would take; None where one can."""
    course = conclusion.course
    runs, finite = course.runs, course.finite
    lowest = min((run.lr for run in runs), default=None)
    more = f"--set experiments.search.trials={course.setup.trials + 10}"
    if not course.trials:
        return Untold("Cannot tell: no trial of the search has ended.", "Run the study: lrscale run.")
    if not finite and not runs:
        return Untold(
            f"Cannot tell: none of {len(course.trials)} trials ended with a loss or diverged; the first ended as "
            f"{course.trials[0].record.status}: {course.trials[0].record.reason}.",
            "Mend what ended the trials, and run the study again.",
        )
    if not finite:
        grows = course.extends and not course.question.ladder.bound
        needs = "more trials" if grows else "learning_rates of the recipe that reach lower"
        return Untold(
            f"Cannot tell: all {len(runs)} trials diverged, down to LR {number(lowest)}. It would take {needs}, or a "
            "look at the module: whether its loss is finite at LR 0, and its clipping.",
            "Look at the module first: whether its loss is finite at LR 0, and its clipping. Then "
            + (f"more trials reach lower: {more}." if grows else "lower experiments.search.learning_rates."),
        )
    best = min(finite, key=lambda run: math.inf if run.loss is None else run.loss)
    if len(finite) < FEWEST and course.ended != "sure":
        return Untold(
            f"Cannot tell: {len(finite)} trials ended with a loss{_and_stopped(course)}, and from fewer than {FEWEST} "
            f"nothing can be named{_more_left(course)}. "
            f"The lowest loss, {number(best.loss, LOSS_DIGITS)}, is that of batch {best.batch_size} at LR "
            f"{number(best.lr)}.",
            f"More trials would tell: {more}.",
        )
    choice = conclusion.advice.choice
    if choice is None:
        return Untold(
            f"Cannot tell: all {len(finite)} trials ended with the same loss, {number(finite[0].loss, LOSS_DIGITS)}. "
            "LR and batch size change nothing within this horizon: it would take a longer one, or another monitor.",
            "Lengthen experiments.search.horizon, or set another task.monitor, in a new study.",
        )
    ladder, end = course.question.ladder, course.end(choice)
    if end is not None and not ladder.bound:
        low = end == "lowest"
        side = "below" if low else "above"
        if not course.extends:
            return Untold(
                f"Cannot tell: the best LR of {len(runs)} trials is {number(choice.lr)}, at the end of the range that "
                f"was searched, and may lie {side} it. It would take experiments.search.learning_rates that reach "
                f"{'lower' if low else 'higher'} than {number(ladder.lrs[0] if low else ladder.lrs[-1])}.",
                f"Set experiments.search.learning_rates to reach {'lower' if low else 'higher'}.",
            )
        return Untold(
            f"Cannot tell: the best LR lies {side} {number(choice.lr)}, the last one that {len(runs)} trials reached, "
            f"at batch {int(choice.batch_size)}. It would take more trials.",
            f"More trials would tell: {more}.",
        )
    return None


def _why(untold: Untold | None) -> str:
    return "" if untold is None else untold.sentence


def _and_stopped(course: Course) -> str:
    return f" and {len(course.stopped)} were stopped" if course.stopped else ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The named setting with what is known of the LRs at its batch size."""

    choice: Choice
    lr_lo: float
    """Interval of the best LR at this batch size."""
    lr_hi: float
    equivalent_lo: float
    """LRs at this batch size whose loss is expected within the tolerance of the best."""
    equivalent_hi: float
    batch_lo: int
    """Interval of the best batch size."""
    batch_hi: int

    @classmethod
    def of(cls, conclusion: Conclusion, choice: Choice) -> Named:
        """Read them off the planner's outlook."""
        question = conclusion.course.question
        view = outlook(question, conclusion.runs)
        assert view is not None
        settings = question.settings
        sizes = np.array([size for _, size in settings])
        here = np.flatnonzero(sizes == int(choice.batch_size))
        lrs = np.array([settings[place][0] for place in here])
        half = math.sqrt(question.ladder.step) if len(question.ladder.lrs) > 1 else 1.0
        lo, hi = _ends(lrs[view.draws[:, here].argmin(axis=1)])
        batches = _ends(sizes[view.draws.argmin(axis=1)])
        within = conclusion.course.setup.tolerance * abs(choice.loss)
        excess = view.mean[here] - view.mean[here][int(np.flatnonzero(lrs == choice.lr)[0])]
        return cls(
            choice=choice,
            lr_lo=min(lo, choice.lr) / half,
            lr_hi=max(hi, choice.lr) * half,
            equivalent_lo=_equal(lrs[::-1], excess[::-1], choice.lr, within),
            equivalent_hi=_equal(lrs, excess, choice.lr, within),
            batch_lo=int(min(batches[0], choice.batch_size)),
            batch_hi=int(max(batches[1], choice.batch_size)),
        )


def _equal(lrs: Any, excess: Any, named: float, within: float) -> float:
    """Return the LR up to which the expected loss stays within some excess, from the named one outwards.

    Between two LRs the loss rises as the square of the distance in ln LR, as it does about a minimum.
    """
    place = int(np.flatnonzero(lrs == named)[0])
    while place < len(lrs) - 1 and excess[place + 1] <= within:
        place += 1
    if place == len(lrs) - 1:
        return float(lrs[place])
    low = max(float(excess[place]), 0.0)
    share = math.sqrt((within - low) / (float(excess[place + 1]) - low))
    return float(lrs[place] * (lrs[place + 1] / lrs[place]) ** share)


def _ends(values: Any) -> tuple[float, float]:
    # Of a few distinct values: the quantiles are ones of them.
    lo, hi = np.quantile(values, [0.025, 0.975], method="nearest")
    return float(lo), float(hi)


def _sentence(conclusion: Conclusion, setting: Named) -> str:
    choice, course = setting.choice, conclusion.course
    digits = loss_digits(choice.loss, choice.loss_lo, choice.loss_hi)
    examples = max(trial.spec.examples for trial in conclusion.trials)
    sizes = course.setup.batch_sizes
    batch = ""
    if len(sizes) > 1 and setting.batch_lo < setting.batch_hi:
        batch = f", best batch {setting.batch_lo} to {setting.batch_hi}"
    sentence = (
        f"Batch {int(choice.batch_size)} at peak LR {number(choice.lr)} is expected to be best "
        f"({interval_text(setting.lr_lo, setting.lr_hi)} for the LR{batch}; {len(course.trials)} trials, "
        f"{examples:,} examples each{_but_stopped(course)}), with loss {number(choice.loss, digits)} "
        f"(95 % {number(choice.loss_lo, digits)} to {number(choice.loss_hi, digits)}); "
        f"it is expected to cost {number(choice.regret)} against the best of the settings searched."
    )
    confirmed = conclusion.confirmed
    return f"{sentence} {_confirmation_sentence(conclusion, confirmed)}" if confirmed is not None else sentence


def _more_left(course: Course) -> str:
    return ": it would take more trials, or a pruner that leaves more of them" if course.stopped else ""


def _but_stopped(course: Course) -> str:
    count = len(course.stopped)
    return f" but for {count} that {'was' if count == 1 else 'were'} stopped early" if count else ""


def _confirmation_sentence(conclusion: Conclusion, confirmed: Confirmation) -> str:
    losses, mean = confirmed.losses(confirmed.named), confirmed.mean(confirmed.named)
    lr, size = confirmed.named
    seeds = f"{len(losses)} fresh seed{'' if len(losses) == 1 else 's'}"
    if mean is None or not math.isfinite(mean):
        return f"Confirmation: LR {number(lr)} at batch {size} gave no loss under {seeds}."
    digits = loss_digits(mean, confirmed.choice.loss_lo, confirmed.choice.loss_hi)
    give = "gives" if len(losses) == 1 else "give"
    predicted = number(confirmed.choice.loss, digits)
    told = f"Confirmation: {seeds} {give} {number(mean, digits)} against {predicted} predicted"
    if conclusion.advice.named == confirmed.named:
        return f"{told}, and it stays the best."
    return f"{told} at LR {number(lr)}, batch {size}, which was named before."


def _numbers(conclusion: Conclusion, setting: Named) -> dict[str, Quantity]:
    choice = setting.choice
    numbers = {
        "best_lr": Quantity(value=choice.lr, lo=setting.lr_lo, hi=setting.lr_hi),
        "best_batch_size": Quantity(
            value=choice.batch_size, lo=float(setting.batch_lo), hi=float(setting.batch_hi), unit="examples"
        ),
        "loss": Quantity(value=choice.loss, lo=choice.loss_lo, hi=choice.loss_hi),
        "expected_regret": Quantity(value=choice.regret),
        "noise_sd": Quantity(value=choice.sigma),
    }
    confirmed = conclusion.confirmed
    if confirmed is not None:
        losses = [loss for loss in confirmed.losses(confirmed.named) if math.isfinite(loss)]
        half, spread = None, confirmed.spread
        if losses and spread is not None:
            half = float(stdtrit(spread[1], 0.975)) * spread[0] / math.sqrt(len(losses))
        if losses:
            mean = float(np.mean(losses))
            numbers["predicted_loss"] = Quantity(
                value=confirmed.choice.loss, lo=confirmed.choice.loss_lo, hi=confirmed.choice.loss_hi
            )
            numbers["confirmed_loss"] = Quantity(
                value=mean, lo=None if half is None else mean - half, hi=None if half is None else mean + half
            )
    return numbers


def _slice_row(conclusion: Conclusion, setting: Named) -> dict[str, Any]:
    choice = setting.choice
    size = int(choice.batch_size)
    diverged = [run.lr for run in conclusion.runs if run.loss is None and run.batch_size == size and run.lr > choice.lr]
    return {
        "batch_size": size,
        "best_lr": choice.lr,
        "lo": setting.lr_lo,
        "hi": setting.lr_hi,
        "equivalent_lo": setting.equivalent_lo,
        "equivalent_hi": setting.equivalent_hi,
        "loss": choice.loss,
        "loss_lo": choice.loss_lo,
        "loss_hi": choice.loss_hi,
        "diverged_above": min(diverged, default=None),
        "trials": sum(trial.spec.global_batch_size == size for trial in conclusion.trials),
        "status": "ok",
    }


def _trial_rows(conclusion: Conclusion) -> list[dict[str, Any]]:
    searched = {trial.trial_id for trial in conclusion.course.trials}
    return [
        {
            "order": order,
            "phase": "search" if trial.trial_id in searched else "confirmation",
            "lr": trial.spec.peak_lr,
            "batch_size": trial.spec.global_batch_size,
            "seed": trial.spec.seed,
            "loss": trial.record.final_loss,
            "examples": trial.record.examples,
            "status": trial.record.status,
            "trial_id": trial.trial_id,
        }
        for order, trial in enumerate(conclusion.trials, start=1)
    ]


def _confirmation_rows(confirmed: Confirmation | None) -> list[dict[str, Any]]:
    if confirmed is None:
        return []
    before = outlook(confirmed.course.question, confirmed.course.runs)
    assert before is not None
    places = confirmed.course.question.settings
    rows = []
    for lr, size in sorted(confirmed.settings, key=lambda one: (one[1], one[0])):
        place, losses = places.index((lr, size)), confirmed.losses((lr, size))
        mean, sd = float(before.mean[place]), float(before.sd[place])
        finite = [loss for loss in losses if math.isfinite(loss)]
        rows.append(
            {
                "lr": lr,
                "batch_size": size,
                "named": (lr, size) == confirmed.named,
                "predicted": mean,
                "predicted_lo": mean - ndtri(0.975) * sd,
                "predicted_hi": mean + ndtri(0.975) * sd,
                "confirmed": float(np.mean(finite)) if len(finite) == len(losses) and finite else None,
                "lowest": min(finite, default=None),
                "highest": max(finite, default=None),
                "seeds": len(losses),
                "diverged": len(losses) - len(finite),
            }
        )
    return rows


def _data(conclusion: Conclusion, setting: Named | None) -> dict[str, Any]:
    course = conclusion.course
    trials = conclusion.trials
    data: dict[str, Any] = {
        "horizon_examples": max((trial.spec.examples for trial in trials), default=None),
        "schedule": course.setup.schedule.name,
        "monitor": next((trial.record.monitor for trial in trials if trial.record.monitor), None),
        "ended": course.ended,
        "batch_sizes": list(course.setup.batch_sizes),
        "learning_rates": list(course.question.ladder.lrs),
        "named": None if setting is None else _plain(setting),
        "map": None,
    }
    view = outlook(course.question, conclusion.runs) if course.question.settings else None
    if view is not None:
        known: Mapping[tuple[float, int], float] = dict(zip(course.question.settings, view.mean.tolist(), strict=True))
        # Rows are batch sizes, columns LRs; a setting that could not be trained is null.
        data["map"] = [
            [known.get((lr, size)) for lr in course.question.ladder.lrs] for size in course.setup.batch_sizes
        ]
    return data


def _plain(setting: Named) -> dict[str, float]:
    return {
        "lr": setting.choice.lr,
        "lr_lo": setting.lr_lo,
        "lr_hi": setting.lr_hi,
        "batch_size": setting.choice.batch_size,
    }
