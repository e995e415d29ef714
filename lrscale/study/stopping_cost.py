"""What each rule of early stopping would have saved in a sweep, and what it would have cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.laws import LRSliceFit
from lrscale.stoppers import STOPPERS, Course, Replay, build_stopper, replay
from lrscale.store import Trial
from lrscale.study.decayed import decayed_shares
from lrscale.study.experiments.base import Context
from lrscale.study.validations import losses_at
from lrscale.study.words import number

KEY = "stopping"
"""Where the answer lies in the tables of the finding on scaling."""
FEWEST_TRIALS = 8
BESIDE = 2
"""LRs on each side of the best one that a vertex takes."""
AWARE = "survivors"
"""Rule that knows of the schedule."""


def stopping_rows(
    context: Context, by_batch: Mapping[int, Sequence[Trial]], fits: Mapping[int, LRSliceFit], validations: int
) -> tuple[dict[str, Any], ...]:
    """Return a row for each rule, or none where too few trials have validated along the way.

    The trials that are complete are played again in the order in which they were asked for. What would have been asked
    for instead, nobody knows: the cost is that among these.

    Parameters
    ----------
    context : Context
    by_batch : mapping of int to sequence of Trial
        The trials of each batch size, in the order in which they were asked for.
    fits : mapping of int to LRSliceFit
    validations : int
        Validations over the horizon.
    """
    courses, sizes = [], []
    for size, trials in by_batch.items():
        for trial in trials:
            course = _course(context, trial, validations)
            if course is not None:
                courses.append(course)
                sizes.append(size)
    if len(courses) < FEWEST_TRIALS or validations < 2:
        return ()
    lowest = min(course.final for course in courses)
    rows = []
    for name in STOPPERS:
        played = replay(build_stopper(name), courses, validations)
        rows.append(
            {
                "rule": name,
                **played.to_dict(),
                "relative_regret": played.regret / abs(lowest) if lowest and math.isfinite(played.regret) else None,
                "slices": len(_fittable(fits, courses, sizes, None)),
                "slices_left": len(_fittable(fits, courses, sizes, played)),
            }
        )
    return tuple(rows)


def stopping_sentence(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what the rule that knows of the schedule would have done, and the others beside it; None without rows."""
    own = next((row for row in rows if row["rule"] == AWARE), None)
    if own is None:
        return None
    told = (
        f"Ended early by the rule {AWARE}, {own['stopped']} of {own['trials']} trials would have saved "
        f"{100 * own['share_saved']:.0f} % of the examples, at a regret of {_percent(own['relative_regret'])} and with "
        f"{own['slices_left']} of {own['slices']} slices left to be fitted"
    )
    others = [
        f"{str(row['rule']).replace('_', ' ')} {100 * row['share_saved']:.0f} %, {_percent(row['relative_regret'])}, "
        f"{row['slices_left']} of {row['slices']}"
        for row in rows
        if row["rule"] != AWARE
    ]
    return f"{told}; {'; '.join(others)}."


def stopped_sentence(trials: Sequence[Trial], rule: str) -> str:
    """Return what a rule has saved in a sweep whose trials it was to end."""
    ended = [trial for trial in trials if trial.record.ended_by_stopper is not None]
    saved = sum(trial.spec.examples - trial.record.examples for trial in ended)
    share = saved / sum(trial.spec.examples for trial in trials) if trials else 0.0
    return (
        f"{len(ended)} of {len(trials)} trials were ended early by {rule.replace('_', ' ')}, which saved {saved:,} "
        f"examples ({100 * share:.0f} %); the first replicate of every LR is complete."
    )


def rule_sentence(row: Mapping[str, Any]) -> str:
    """Return what one rule would have done in the sweep."""
    rule = str(row["rule"]).replace("_", " ")
    return (
        f"In the sweep, whose trials are complete, {rule} would have ended {row['stopped']} "
        f"of {row['trials']} trials and saved {100 * row['share_saved']:.0f} % of the examples, at a regret of "
        f"{_percent(row['relative_regret'])}; {row['slices_left']} of {row['slices']} slices could still be fitted."
    )


def _percent(regret: float | None) -> str:
    return "all" if regret is None else f"{number(100 * regret)} %"


def _course(context: Context, trial: Trial, validations: int) -> Course | None:
    final = trial.record.final_loss
    if trial.record.status != "completed" or final is None:
        return None
    losses = losses_at(context.view, trial, validations)
    if len(losses) < 2:
        return None
    return Course(
        lr=trial.spec.peak_lr,
        batch_size=trial.spec.global_batch_size,
        examples=trial.spec.examples,
        losses=losses,
        decayed=decayed_shares(trial.spec, validations),
        final=final,
    )


def _fittable(
    fits: Mapping[int, LRSliceFit], courses: Sequence[Course], sizes: Sequence[int], played: Replay | None
) -> list[int]:
    """Return the batch sizes that keep so many LRs on each side of their best one, among survivors or all trials."""
    found = []
    for size, fit in fits.items():
        if fit.best_lr is None:
            continue
        lrs = {
            course.lr
            for place, (course, own) in enumerate(zip(courses, sizes, strict=True))
            if own == size and (played is None or played.ended[place] is None)
        }
        below, above = sum(lr < fit.best_lr for lr in lrs), sum(lr > fit.best_lr for lr in lrs)
        if below >= BESIDE and above >= BESIDE:
            found.append(size)
    return found
