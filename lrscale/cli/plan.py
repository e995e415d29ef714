"""``lrscale plan``: what a study would spend, before it spends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import DONE
from lrscale.cli.text import count, seconds, table, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrscale.cli.request import StudyRequest
    from lrscale.study import PlannedExperiment


def show_plan(request: StudyRequest) -> int:
    """Print the experiments with their trials, examples and time; nothing is written."""
    from lrscale.store import StudyView
    from lrscale.study import Study

    recipe, folder = request.load()
    view = StudyView.of(folder)
    planned = Study(recipe, folder).plan(view)
    typer.echo(plan_table(planned))
    there = _there(len(view.trials))
    typer.echo(f"\nExamples and time are those of the most trials, on top of {there} in {folder.path}.")
    if any(entry.seconds is None for entry in planned):
        typer.echo("The time is known once a trial has run; lrscale range-test is the cheapest start.")
    return DONE


def _there(trials: int) -> str:
    return count(trials, "finished trial") if trials else "no finished trial"


def plan_table(planned: Sequence[PlannedExperiment]) -> str:
    """Return the plan as a table, with the sum and the notes below it.

    "Trials" are certain. "At most" is what an experiment may come to when the best LR turns out to lie at the edge of
    what was tried; examples and time are of the most trials. A time is known once a trial of the study has run.
    """
    rows = [
        [
            entry.name,
            f"{entry.trials:,}",
            f"{entry.trials_at_most:,}",
            f"{entry.examples:,}",
            seconds(entry.seconds),
        ]
        for entry in planned
    ]
    times = [entry.seconds for entry in planned]
    whole = sum(time for time in times if time is not None) if all(time is not None for time in times) else None
    rows.append(
        [
            "all",
            f"{sum(entry.trials for entry in planned):,}",
            f"{sum(entry.trials_at_most for entry in planned):,}",
            f"{sum(entry.examples for entry in planned):,}",
            seconds(whole),
        ]
    )
    text = table(["experiment", "trials", "at most", "examples", "time"], rows, right=[1, 2, 3, 4])
    notes = [
        wrapped(f"{entry.name}: {entry.question}{f' ({entry.note})' if entry.note else ''}", indent="  ", first="")
        for entry in planned
    ]
    return "\n".join([text, "", *notes])
