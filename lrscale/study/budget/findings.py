"""What a budget did to the answers of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrscale.recipe import Recipe
from lrscale.study.analysed import KEPT_OUT, LEAST
from lrscale.study.budget.allocate import Need
from lrscale.study.budget.words import changes_text, left_out_text, need_text
from lrscale.study.experiments.base import AbstractExperiment
from lrscale.study.finding import Check, Finding

REMEDY = "raise the budget (--budget, or cost.budget in the recipe) and run it again: what is there is kept"


def left_out_finding(experiment: AbstractExperiment, entry: Mapping[str, Any]) -> Finding:
    """Return the answer to a question of which the budget left no trial: cannot tell, and what it would take.

    Parameters
    ----------
    experiment : AbstractExperiment
    entry : mapping
        The plan's entry on the budget.
    """
    need = Need(**entry[KEPT_OUT][experiment.key])
    least = entry.get(LEAST, {}).get(experiment.key)
    takes = left_out_text(need, None if least is None else Need(**least))
    sentence = f"The budget of {entry['stated']} left this question out: it would take {takes}."
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="cannot_tell",
        sentence=sentence,
        checks=(Check(name=f"{experiment.title}: budget", status="WARNING", sentence=sentence, remedy=REMEDY),),
        data={KEPT_OUT: dict(entry[KEPT_OUT][experiment.key])},
    )


def with_budget_checks(finding: Finding, recipe: Recipe, entry: Mapping[str, Any] | None) -> Finding:
    """Return a finding with checks that say what the budget took from its question."""
    if entry is None:
        return finding
    checks = []
    settings = entry["reduced"].get(finding.key)
    if settings:
        told = changes_text(recipe, finding.key, settings)
        checks.append(
            Check(
                name=f"{finding.title}: budget",
                status="INFO",
                sentence=f"Within the budget of {entry['stated']} it was asked with {told}.",
                remedy=REMEDY,
            )
        )
    kept_out = entry[KEPT_OUT].get(finding.key)
    if kept_out is not None:
        checks.append(
            Check(
                name=f"{finding.title}: trials kept out",
                status="WARNING",
                sentence=f"The budget of {entry['stated']} kept out {need_text(Need(**kept_out))}.",
                remedy=REMEDY,
            )
        )
    return dataclasses.replace(finding, checks=(*finding.checks, *checks)) if checks else finding
