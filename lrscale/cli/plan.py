"""``lrscale plan``: what a study would spend, before it spends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import DONE, faults_logged_in
from lrscale.cli.text import count, seconds, table, wrapped
from lrscale.units import time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lrscale.cli.request import StudyRequest
    from lrscale.recipe import Budget, Price, Recipe
    from lrscale.store import StudyFolder
    from lrscale.study import PlannedExperiment
    from lrscale.study.budget.spent import Spent

KNOWN = {
    "measured": "measured",
    "between": "between measured",
    "beyond": "beyond measured",
    "stated": "stated",
    "unknown": "-",
}
VERDICTS = {"full": "yes", "reduced": "reduced", "left out": "left out", None: "-"}


def show_plan(request: StudyRequest, *, measure: bool = False) -> int:
    """Print the experiments with their trials, examples, time and money, and what a budget leaves of them.

    Parameters
    ----------
    request : StudyRequest
    measure : bool, optional
        Whether a few short trials run first. Default False: nothing runs and nothing is written.
    """
    from lrscale.store import StudyView
    from lrscale.study import Study
    from lrscale.study.budget.spent import spent_by_plan
    from lrscale.study.cost import CostModel

    recipe, folder = request.load()
    if measure:
        _measure(recipe, folder)
    view = StudyView.of(folder)
    planned = Study(recipe, folder).plan(view)
    plan = folder.read_plan() if folder.exists() else {}
    typer.echo(plan_table(planned, recipe.cost.price, recipe.cost.budget))
    typer.echo("")
    spread = CostModel.of(recipe, view, plan.get("facts", {})).spread()
    for line in _remarks(planned, recipe, folder, spent_by_plan(plan, view), len(view.trials), spread):
        typer.echo(wrapped(line, indent="  ", first=""))
    return DONE


def _measure(recipe: Recipe, folder: StudyFolder) -> None:
    from lrscale.cli.run import launch_settings, make_progress
    from lrscale.launch import LAUNCHERS
    from lrscale.study import Study

    progress = make_progress({"measure": None}, recipe)
    try:
        with faults_logged_in(folder.path), LAUNCHERS["local"](launch_settings(recipe)) as launcher:
            Study(recipe, folder).measure(launcher, progress=progress)
    finally:
        progress.finished()


def _remarks(
    planned: Sequence[PlannedExperiment],
    recipe: Recipe,
    folder: StudyFolder,
    gone: Spent,
    there: int,
    spread: float | None,
) -> Iterable[str]:
    from lrscale.study.budget.words import budget_lines

    stock = count(there, "finished trial") if there else "no finished trial"
    yield f"Trials, examples and time are those that each question usually takes, on top of {stock} in {folder.path}."
    if any(entry.seconds is None for entry in planned):
        yield (
            "The time is known once a trial has run: --measure runs a few short ones, "
            '--throughput "N examples/s" states it.'
        )
    if spread is not None:
        yield f"The trials that are there took what such trials are priced at now to within {100 * spread:.2g} %."
    budget = recipe.cost.budget
    if budget is None:
        return
    if gone.trials:
        amount = {
            "seconds": time_text(gone.seconds),
            "examples": count(gone.examples, "example"),
            "trials": count(gone.trials, "trial"),
        }[budget.unit]
        yield f"Of the budget of {budget}, {amount} {'is' if amount.startswith('1 ') else 'are'} spent."
    unknown = [entry.name for entry in planned if entry.verdict is None]
    if unknown:
        yield f"What the budget of {budget} answers of {', '.join(unknown)} cannot be told before a time is known."
    lines = budget_lines(planned)
    if not lines and not unknown:
        yield f"The budget of {budget} answers every question."
    for line in lines:
        yield f"Within the budget of {budget}, {line}."


def plan_table(planned: Sequence[PlannedExperiment], price: Price | None = None, budget: Budget | None = None) -> str:
    """Return the plan as a table, with the sum and the questions below it.

    "Trials", examples and times are of what an experiment usually comes to, "at most" is what it could come to. With a
    budget the questions stand in the order in which it is given to them, and what is left out is not in the sum.

    Parameters
    ----------
    planned : sequence of PlannedExperiment
    price : Price or None, optional
        Of a device-hour; adds a column of money. Default None.
    budget : Budget or None, optional
        Adds a column that says which questions are answered. Default None.
    """
    header = ["experiment", "trials", "at most", "examples", "time", "device-hours"]
    header += ["cost"] * (price is not None) + ["time known by"] + ["answered"] * (budget is not None)
    entries = sorted(planned, key=lambda entry: entry.importance) if budget is not None else list(planned)
    rows = [
        [
            *_figures(entry.name, [entry], price),
            KNOWN[entry.basis] if entry.trials_expected else "-",
            *([VERDICTS[entry.verdict]] if budget is not None else []),
        ]
        for entry in entries
    ]
    counted = [entry for entry in entries if entry.verdict != "left out"]
    rows.append([*_figures("all", counted, price), "", *([""] if budget is not None else [])])
    text = table(header, rows, right=range(1, 6 + (price is not None)))
    notes = [
        wrapped(f"{entry.name}: {entry.question}{f' ({entry.note})' if entry.note else ''}", indent="  ", first="")
        for entry in entries
    ]
    return "\n".join([text, "", *notes])


def _figures(name: str, entries: Sequence[PlannedExperiment], price: Price | None) -> list[str]:
    hours = _sum(entry.device_seconds for entry in entries)
    hours = None if hours is None else hours / 3600
    cells = [
        name,
        f"{sum(entry.trials_expected for entry in entries):,}",
        f"{sum(entry.trials_at_most for entry in entries):,}",
        f"{sum(entry.examples for entry in entries):,}",
        seconds(_sum(entry.seconds for entry in entries)),
        "-" if hours is None else f"{hours:.3g}",
    ]
    if price is not None:
        cells.append("-" if hours is None else price.of(hours))
    return cells


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
