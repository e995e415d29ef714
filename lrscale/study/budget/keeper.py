"""Keeps a running study within its budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

from lrscale.errors import BudgetError
from lrscale.recipe import Recipe, with_settings
from lrscale.store import StudyView, TrialSpec
from lrscale.study.analysed import KEPT_OUT, LEAST
from lrscale.study.budget.allocate import Need
from lrscale.study.budget.allowance import Allowance
from lrscale.study.budget.forms import Forms, choose_forms
from lrscale.study.budget.spent import Ledger, spent
from lrscale.study.budget.words import budget_lines, changes_text, need_text
from lrscale.study.cost import CostModel, TrialCost
from lrscale.study.experiments.base import AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.layouts.memory_search import largest_that_fits
from lrscale.study.planned import Verdict, taken_by

BUDGET = "budget"
"""Entry of plan.json: the budget as ``stated``, settings it ``reduced``, and what it ``kept_out``, by experiment."""


@final
class Keeper:
    """Decides which questions of a study are asked, in which form, and which trials may still start.

    The budget is the study's: what earlier runs spent counts. It is given out anew before each round, by what trials
    have taken by then, so that a wrong guess costs the questions that come last.

    Parameters
    ----------
    recipe : Recipe
        As it was asked.
    ledger : Ledger
        The time of the study's runs.
    plan : dict
        Its plan, which is written back by the caller.
    view : StudyView
        Its finished trials, which grow as the study runs.
    facts : mapping
        What inspecting the task found.
    """

    def __init__(
        self, recipe: Recipe, ledger: Ledger, plan: dict[str, Any], view: StudyView, facts: Mapping[str, Any]
    ) -> None:
        self._asked = recipe
        self._plan = plan
        self._view = view
        self._facts = facts
        self._ledger = ledger
        self._forms = Forms(planned=())
        self._said: set[tuple[str, Verdict | None, tuple[str, ...]]] = set()
        self._begun = _begun_in(plan, recipe)
        self._running: dict[str, TrialCost] = {}
        plan.pop(BUDGET, None)
        if recipe.cost.budget is not None:
            plan[BUDGET] = {"stated": str(recipe.cost.budget), "reduced": {}, KEPT_OUT: {}}

    @property
    def left(self) -> Allowance:
        """What the study may still spend."""
        so_far = spent(self._view, self._ledger.seconds)
        return so_far.left_of(self._asked.cost.budget, self._asked.layout.at_once)

    def context(
        self, experiment: AbstractExperiment, later: Sequence[AbstractExperiment], findings: Mapping[str, Finding]
    ) -> Context:
        """Return what an experiment may look at, the budget given out anew to it and those after it."""
        left = self.left
        if not left.bounded:
            return self._context(self._asked, findings)
        prices = self._prices(findings)
        whole = [experiment, *later]
        self._forms = choose_forms(
            whole,
            self._asked,
            left,
            lambda recipe: self._context(recipe, findings, prices=prices),
            self._begun,
        )
        entry = self._plan[BUDGET]
        entry["reduced"] = {
            **{key: value for key, value in entry["reduced"].items() if key not in {one.key for one in whole}},
            **{key: dict(value) for key, value in self._forms.settings.items()},
        }
        recipe = with_settings(self._asked, entry["reduced"])
        return self._context(recipe, findings, prices=prices, budget=self._forms.reserved(experiment.key, left))

    def affordable(self, experiment: AbstractExperiment, missing: Sequence[TrialSpec], context: Context) -> int:
        """Return how many of the missing trials of a round may run, taken in their order."""
        if not context.budget.bounded:
            return len(missing)
        if experiment.key in self._forms.left_out:
            return 0
        count = context.affords(missing)
        if context.budget.seconds is not None and any(context.cost(spec).seconds is None for spec in missing[:count]):
            # One trial tells what the others take; which form fits is known after it.
            return min(count, 1)
        if count:
            self._begun.setdefault(experiment.key, self._forms.settings.get(experiment.key, {}))
        return count

    def news(self) -> list[str]:
        """Return what the budget leaves less of, as sentences, where that has changed since it was last asked."""
        less = [entry for entry in self._forms.planned if entry.verdict in ("reduced", "left out")]
        # What it would take moves with each trial, and is told once.
        new = [entry for entry in less if (entry.name, entry.verdict, entry.changes) not in self._said]
        self._said |= {(entry.name, entry.verdict, entry.changes) for entry in new}
        return [f"within the budget of {self._asked.cost.budget}, {line}" for line in budget_lines(new)]

    def _admits(self, cost: TrialCost) -> bool:
        """Whether a trial may start now: it can be expected to end within the budget."""
        # Side by side or not, a trial must end by itself within the time that is left.
        left = dataclasses.replace(self.left, at_once=1)
        return left.affords([*self._running.values(), cost]) == len(self._running) + 1

    def starts(self, trial_id: str, cost: TrialCost | None) -> bool:
        """Whether a trial may start now; where it may, it counts as running. A cost of None is not bounded."""
        if cost is None:
            return True
        self._running.pop(trial_id, None)
        if not self._admits(cost):
            return False
        # What it will have taken is in the clock by the time that it ends; its examples are in no record before.
        self._running[trial_id] = dataclasses.replace(cost, seconds=0.0)
        return True

    def ended(self, trial_id: str) -> None:
        """Note that a trial has ended, whatever its status."""
        self._running.pop(trial_id, None)
        self._ledger.enter(trial_id)

    def outcome(self) -> tuple[str, ...]:
        """Return what the budget did to the study, as sentences."""
        entry = self._plan.get(BUDGET)
        if entry is None:
            return ()
        stated = entry["stated"]
        settings = entry["reduced"].items()
        reduced = [f"{key}: {changes_text(self._asked, key, own)}" for key, own in settings]
        kept_out = [f"{key}: {need_text(Need(**need))}" for key, need in entry[KEPT_OUT].items()]
        return (
            *(f"reduced by the budget of {stated}: {line}" for line in reduced),
            *(f"kept out by the budget of {stated}: {line}" for line in kept_out),
        )

    def keep_out(self, experiment: AbstractExperiment, missing: Sequence[TrialSpec], context: Context) -> None:
        """Note what the budget keeps out of an experiment."""
        entry = next((one for one in self._forms.planned if one.name == experiment.key), None)
        if entry is not None and entry.verdict == "left out":
            need = entry.need
            if entry.least is not None:
                self._plan[BUDGET].setdefault(LEAST, {})[experiment.key] = dataclasses.asdict(entry.least)
        else:
            costs = [context.cost(spec) for spec in missing]
            need = taken_by(missing, costs, experiment.side_by_side(context.recipe))
        self._plan[BUDGET][KEPT_OUT][experiment.key] = dataclasses.asdict(need)

    def refuse_if_nothing_starts(self, experiments: Sequence[AbstractExperiment]) -> None:
        """Raise where the budget is below the cheapest trial and the study has none.

        Raises
        ------
        BudgetError
            With what one trial takes.
        """
        budget = self._asked.cost.budget
        if budget is None or self._view.trials:
            return
        costs = []
        for experiment in experiments:
            context = self._context(self._asked, {})
            costs += [context.cost(spec) for spec in experiment.plan(context)]
        if not costs or any(self._admits(cost) for cost in costs):
            return
        least = min(costs, key=lambda cost: (cost.examples, cost.seconds or 0.0))
        takes = need_text(Need(trials=1, examples=least.examples, seconds=least.seconds))
        gone = f", of which {self._ledger.seconds:.1f} s went into looking at the task," * (budget.unit == "seconds")
        raise BudgetError(
            f"the budget of {budget}{gone} is below the cheapest trial of the study, which takes {takes}",
            hint="raise --budget, or see what the questions take: lrscale plan",
        )

    def _context(
        self,
        recipe: Recipe,
        findings: Mapping[str, Finding],
        *,
        prices: CostModel | None = None,
        budget: Allowance | None = None,
    ) -> Context:
        return Context(
            recipe=recipe,
            view=self._view,
            facts=self._facts,
            findings=findings,
            budget=budget or Allowance(),
            prices=prices,
        )

    def _prices(self, findings: Mapping[str, Finding]) -> CostModel:
        return CostModel.of(self._asked, self._view, self._facts, largest_that_fits(findings))


def _begun_in(plan: Mapping[str, Any], recipe: Recipe) -> dict[str, Mapping[str, Any]]:
    """Return the forms in which the last run of the same budget has begun questions."""
    entry = plan.get(BUDGET)
    if entry is None or entry["stated"] != str(recipe.cost.budget):
        return {}
    began = {one["experiment"] for one in plan["decisions"] if one.get("trials")}
    return {key: entry["reduced"].get(key, {}) for key in began}
