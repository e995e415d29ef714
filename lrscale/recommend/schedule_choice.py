"""Which schedule to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lrscale.recipe import Recipe, ScheduleChoice
from lrscale.recommend.measured import Cell, ScheduleResult, schedule_results
from lrscale.recommend.words import count, percent
from lrscale.study.finding import Finding

_FIRST = ("best", "lowest")
_GOOD = (*_FIRST, "tied")


@final
@dataclass(frozen=True, slots=True)
class ScheduleVerdict:
    """The schedule, the setting that was measured with it, and why."""

    schedule: ScheduleChoice
    cell: Cell | None
    """The compared schedule's own best LR; None to keep the setting that `scaling` measured."""
    reasons: tuple[str, ...]
    used: bool
    """Whether the comparison took part in the decision."""


def choose_schedule(
    recipe: Recipe, comparison: Finding | None, own: ScheduleChoice | None, cell: Cell | None, horizon_examples: int
) -> ScheduleVerdict:
    """Choose between the schedule that `scaling` ran and those that were compared.

    The schedule of `scaling` is kept unless the comparison, made at the recommended batch and the same horizon, found
    another one better by more than its margin: its best LR was measured at every batch size, the others' at one. A
    better schedule that was compared at another batch or horizon is named, and not taken, since its LR there is
    unknown.

    Parameters
    ----------
    recipe : Recipe
    comparison : Finding or None
        The finding of `schedules`.
    own : ScheduleChoice or None
        The schedule of `scaling`; None when only the comparison was run.
    cell : Cell or None
        The setting so far; None when only the comparison was run.
    horizon_examples : int
        Length of the scaling trials.

    Returns
    -------
    ScheduleVerdict
    """
    kept = ScheduleVerdict(own or ScheduleChoice(name="cosine"), None, (), False)
    if comparison is None or comparison.status != "ok":
        return kept
    results = schedule_results(comparison)
    best = next((result for result in results if result.verdict in _FIRST), None)
    if best is None or best.cell is None:
        return kept
    tied = [result.label for result in results if result.verdict == "tied"]
    if own is None or cell is None:
        return ScheduleVerdict(_choice(recipe, best), best.cell, (_best_sentence(best, tied, comparison),), True)
    mine = next((result for result in results if result.label == own.label), None)
    if mine is not None and mine.verdict in _GOOD:
        others = [result.label for result in results if result.verdict in _GOOD and result is not mine]
        sentence = f"The {own.label} schedule is as good as the best of {len(results)} at their own best LRs"
        return ScheduleVerdict(own, None, (f"{sentence}{f', tied with {_listed(others)}' if others else ''}.",), True)
    where = (int(comparison.data["batch_size"]), int(comparison.data["horizon_examples"]))
    if mine is not None and mine.verdict == "worse" and where == (cell.batch_size, horizon_examples):
        return ScheduleVerdict(_choice(recipe, best), best.cell, (_best_sentence(best, tied, comparison),), True)
    if mine is not None and mine.verdict == "worse":
        return ScheduleVerdict(
            own,
            None,
            (
                f"The {best.label} schedule was better than {own.label} at batch {count(where[0])} and "
                f"{count(where[1])} "
                f"examples ({_loss_gap(mine)} for {own.label}), but its best LR at batch "
                f"{count(cell.batch_size)} was not "
                f"measured: to use it, set experiments.scaling.schedule={best.label}.",
            ),
            True,
        )
    return ScheduleVerdict(own, None, (f"Whether another schedule is better than {own.label} cannot be told.",), True)


def _choice(recipe: Recipe, result: ScheduleResult) -> ScheduleChoice:
    compared = recipe.experiments.schedules
    for choice in () if compared is None else compared.schedules:
        if choice.label == result.label or choice.name == result.name == result.label:
            return choice
    return ScheduleChoice(name=result.name)


def _best_sentence(best: ScheduleResult, tied: list[str], comparison: Finding) -> str:
    also = f"; {_listed(tied)} tied with it" if tied else ""
    return (
        f"The {best.label} schedule has the lowest loss of {len(comparison.data['schedules'])}, each at its "
        "own best LR, at "
        f"batch {count(int(comparison.data['batch_size']))}{also}."
    )


def _loss_gap(result: ScheduleResult) -> str:
    if result.difference.value is None or result.cell is None or not result.cell.loss.value:
        return "a higher loss"
    return f"{percent(result.difference.value / abs(result.cell.loss.value))} loss"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
