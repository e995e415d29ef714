"""``lrscale status``: what is done, running, lost and missing in a study folder."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrscale.cli.guard import DONE
from lrscale.cli.progress_board import describe
from lrscale.cli.status_jobs import STATES, JobsStatus
from lrscale.cli.study_access import OpenStudy, open_study
from lrscale.cli.text import count, number, seconds, table, wrapped
from lrscale.errors import LrscaleError
from lrscale.store.lock import is_held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrscale.launch.slurm import AtWork
    from lrscale.store import StudyFolder

SHOWN_DECISIONS = 5


def show_status(path: Path) -> int:
    """Print the state of a study; nothing of it is changed, and torch is not loaded."""
    study = open_study(path)
    jobs = JobsStatus.of(path)
    running = is_held(path) or jobs.driver is not None
    unfinished = [trial_id for trial_id in study.folder.trial_ids() if trial_id not in study.view.trials]
    typer.echo(f"study {study.recipe.name} in {path}: {jobs.heading or ('running' if running else 'not running')}")
    typer.echo()
    ended = [trial for trial in study.view if not trial.record.retryable]
    counts = Counter(trial.record.status.replace("_", " ") for trial in ended)
    rows = [[status, f"{times:,}"] for status, times in counts.most_common()]
    alone = [trial_id for trial_id in unfinished if trial_id not in jobs.states]
    states = Counter(jobs.states[trial_id] for trial_id in unfinished if trial_id in jobs.states)
    states.update(("running" if running else "lost") for _ in alone)
    states["lost"] += len(study.view.trials) - len(ended)
    rows += [[state, f"{states[state]:,}"] for state in (*STATES, "lost") if states[state]]
    typer.echo(table(["trials", ""], rows or [["none yet", "0"]], right=[1]))
    shown = [trial_id for trial_id in unfinished if trial_id in jobs.at_work or trial_id in alone]
    if shown:
        typer.echo()
        for trial_id in shown:
            typer.echo(_how_far(study.folder, trial_id, jobs.at_work.get(trial_id)))
    if states["lost"]:
        typer.echo("Lost trials were stopped before they ended; the next run starts them anew.")
    for line in jobs.lines:
        typer.echo(wrapped(line, indent="  ", first=""))
    typer.echo()
    for line in _missing(study, running=running):
        typer.echo(wrapped(line, indent="  ", first=""))
    for line in _decisions(study.folder.read_plan()):
        typer.echo(wrapped(line, indent="      ", first="" if line.endswith(":") else "  "))
    return DONE


def _how_far(folder: StudyFolder, trial_id: str, at_work: AtWork | None) -> str:
    from lrscale.launch.tail import last_row

    try:
        spec = folder.spec(trial_id)
    except LrscaleError:
        return f"  {trial_id}: killed before its spec was written"
    home = folder.trial_path(trial_id) if at_work is None else at_work.folder
    where = "" if at_work is None else f", {at_work.where}" + (" (lost)" if at_work.lost else "")
    row = last_row(home)
    if row is None:
        return f"  {describe(spec)}: no step yet{where}"
    heard = seconds(max(0.0, time.time() - _touched(home)))
    return f"  {describe(spec)}: step {row['step']} of {spec.horizon}, loss {_loss(row)}, last heard {heard} ago{where}"


def _touched(folder: Path) -> float:
    return max((entry.stat().st_mtime for entry in folder.glob("trajectory*")), default=folder.stat().st_mtime)


def _loss(row: dict[str, Any]) -> str:
    value = row.get("train_loss", row.get("val_loss"))
    return number(value, 4)


def _missing(study: OpenStudy, *, running: bool) -> list[str]:
    from lrscale.study import Study

    if study.config_note is not None:
        return [f"what is missing cannot be told: {study.config_note}"]
    try:
        planned = Study(study.recipe, study.folder).plan(study.view)
    except LrscaleError as error:
        # A length in epochs, for one, is known only once the data have been looked at; the rest can be shown.
        return [f"what is missing cannot be told yet: {error.message}"]
    kept_out = [entry.name for entry in planned if entry.trials and entry.verdict == "left out"]
    budget = [f"kept out by the budget of {study.recipe.cost.budget}: {', '.join(kept_out)}"] if kept_out else []
    left = [entry for entry in planned if entry.trials and entry.verdict != "left out"]
    if not left:
        return [*budget, "nothing else is missing" if budget else "nothing is missing"]
    parts = ", ".join(f"{entry.name} {entry.trials:,}" for entry in left)
    trials = count(sum(entry.trials for entry in left), "trial")
    times = [entry.seconds for entry in left if entry.seconds is not None]
    when = f"; about {seconds(sum(times))} of work" if len(times) == len(left) else ""
    word = "still to come" if running else "missing"
    return [f"{trials} {word} ({parts}){when}", *budget]


def _decisions(plan: dict[str, Any]) -> list[str]:
    shown = plan.get("decisions", [])[-SHOWN_DECISIONS:]
    return ["last decisions:", *(_decision(entry) for entry in shown)] if shown else []


def _decision(entry: Mapping[str, Any]) -> str:
    if "recipe_changed" in entry:
        what = f"the recipe changed: {'; '.join(entry['recipe_changed'])}"
    elif "code" in entry:
        what = f"the code changed: {entry['code']}"
    elif "kept_out" in entry:
        what = f"{entry.get('experiment', 'study')}: {count(len(entry['kept_out']), 'trial')} kept out by the budget"
    else:
        what = f"{entry.get('experiment', 'study')}: {count(len(entry.get('trials', ())), 'trial')} to run"
    return f"{entry.get('at', '')}  {what}"
