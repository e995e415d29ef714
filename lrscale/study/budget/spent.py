"""What a study has spent, over all runs of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.launch.tail import last_row
from lrscale.recipe import Budget
from lrscale.store import StudyFolder, StudyView
from lrscale.study.budget.allowance import Allowance

SPENT = "spent"
"""Entry of plan.json: ``seconds`` of all runs, those of ``lost`` trials among them, by their ids."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What finished trials and the runs of a study have taken."""

    trials: int
    examples: int
    seconds: float

    def left_of(self, budget: Budget | None, at_once: int = 1) -> Allowance:
        """Return what a budget leaves, never below zero.

        Examples
        --------
        >>> Spent(trials=15, examples=9000, seconds=40.0).left_of(Budget(20, "trials")).trials
        5
        """
        if budget is None:
            return Allowance(at_once=at_once)
        left = max(0.0, budget.value - getattr(self, budget.unit))
        if budget.unit == "seconds":
            return Allowance(seconds=left, at_once=at_once)
        return Allowance(**{budget.unit: int(left)}, at_once=at_once)


@final
class Ledger:
    """Keeps the time of a study's runs in its plan.

    A run that is killed is counted up to the end of its last trial, or a second less.

    Examples and trials need no book: the records hold them.

    Parameters
    ----------
    plan : dict
        The study's plan; its entry is brought up to date by `enter`.
    earlier : float
        Seconds of the runs before this one.
    """

    def __init__(self, plan: dict[str, Any], earlier: float) -> None:
        self._plan = plan
        self._earlier = earlier
        self._began = time.monotonic()

    @classmethod
    def open(cls, plan: dict[str, Any], folder: StudyFolder, view: StudyView, at_once: int = 1) -> Ledger:
        """Begin a run: find what the runs before it took, that of trials that they lost included."""
        entry = plan.setdefault(SPENT, {"seconds": recorded_seconds(view) / at_once, "lost": {}})
        for trial_id, seconds in _lost(folder, view).items():
            # Counted once, however often the study is run before the trial is done again.
            entry["seconds"] += max(0.0, seconds - entry["lost"].get(trial_id, 0.0)) / at_once
            entry["lost"][trial_id] = seconds
        return cls(plan, entry["seconds"])

    @property
    def seconds(self) -> float:
        """Wall-clock time of all runs so far."""
        return self._earlier + time.monotonic() - self._began

    def enter(self, finished: str | None = None) -> None:
        """Bring the plan's entry up to date; `finished` is a trial that has ended."""
        self._plan[SPENT]["seconds"] = round(self.seconds, 3)
        if finished is not None:
            self._plan[SPENT]["lost"].pop(finished, None)

    def close(self, folder: StudyFolder, view: StudyView) -> None:
        """End a run that could say so: what it leaves unfinished is in its time already."""
        self.enter()
        self._plan[SPENT]["lost"] = _lost(folder, view)


def spent(view: StudyView, seconds: float) -> Spent:
    """Return what the finished trials of a study have taken, with the time of its runs."""
    records = [trial.record for trial in view]
    return Spent(trials=len(records), examples=sum(record.examples for record in records), seconds=seconds)


def spent_by_plan(plan: Mapping[str, Any], view: StudyView) -> Spent:
    """Return what a study has spent as its plan and records tell it; nothing of it runs now."""
    entry = plan.get(SPENT)
    return spent(view, recorded_seconds(view) if entry is None else float(entry["seconds"]))


def recorded_seconds(view: StudyView) -> float:
    """Return the time of all finished trials together, for a study of before its runs were timed."""
    return sum(trial.record.timing.get("total", 0.0) for trial in view)


def _lost(folder: StudyFolder, view: StudyView) -> dict[str, float]:
    unfinished: Iterable[str] = (trial_id for trial_id in folder.trial_ids() if trial_id not in view.trials)
    rows = {trial_id: last_row(folder.trial_path(trial_id)) for trial_id in unfinished}
    return {trial_id: round(float(row.get("seconds") or 0.0), 3) for trial_id, row in rows.items() if row is not None}
