"""``lrscale run``, and the commands that run one experiment alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from lrscale.cli.finding_tables import table_lines
from lrscale.cli.guard import DONE, NO, TRIALS_FAILED, faults_logged_in
from lrscale.cli.outputs import RECOMMENDATION, open_page, print_answer, write_page, write_recommendation
from lrscale.cli.study_access import OpenStudy
from lrscale.cli.text import count, wrapped
from lrscale.errors import InterruptedStudyError, LrscaleError, RecipeError

if TYPE_CHECKING:
    from lrscale.cli.request import StudyRequest
    from lrscale.launch import AbstractLauncher, AbstractProgress, LaunchSettings
    from lrscale.recipe import Recipe
    from lrscale.store import StudyFolder
    from lrscale.study import StudyOutcome
    from lrscale.study.finding import Finding


NEEDS = {
    "scaling": ("range_test",),
    "schedules": ("range_test", "scaling"),
    "search": ("range_test",),
    "forecast": ("range_test",),
    "noise_scale": ("range_test",),
    "throughput": ("memory",),
}
"""Experiments whose findings another one starts from: the bracket of the LR, the best batch size, what fits."""

BESIDE = ("growing_batch", "horizons", "critical_batch", "factors", "rules")
"""Experiments whose findings stand on a terminal below the recommendation, which does not depend on them."""


def run_study(request: StudyRequest) -> int:
    """Run what is missing, recommend, and write the report.

    Returns
    -------
    int
        0 with a recommendation; 1 when the trials cannot tell; 3 when that is because trials failed, and whenever the
        same command has lost trials to run again.
    """
    from lrscale.store.logged import FOLDER

    recipe, folder = request.load()
    with _resumable(request, folder), faults_logged_in(folder.path):
        outcome = _carry_out(request, recipe, folder, None)
        study = OpenStudy.of(recipe, folder)
        answer = write_recommendation(study, outcome.findings)
        page = write_page(study, outcome.findings, answer)
    _print_outcome(outcome, request)
    typer.echo()
    forecast = next((finding for finding in outcome.findings if finding.key == "forecast"), None)
    if forecast is not None and recipe.experiments.scaling is None and recipe.experiments.schedules is None:
        # Cells of other models recommend nothing for the task as it stands; the forecast is the answer.
        print_finding(forecast)
        code = DONE if forecast.status == "ok" else NO
    else:
        code = print_answer(answer)
    if outcome.lost or (code == NO and outcome.failed):
        code = TRIALS_FAILED
    for finding in outcome.findings:
        if finding.key in BESIDE:
            typer.echo()
            print_finding(finding)
    typer.echo()
    typer.echo(f"report          {page}")
    if (folder.path / RECOMMENDATION).exists():
        typer.echo(f"recommendation  {folder.path / RECOMMENDATION}")
    if recipe.logger:
        typer.echo(f"logs            {folder.path / FOLDER}")
    return code


def run_alone(request: StudyRequest, *, open_in_browser: bool = False) -> int:
    """Run one experiment, with those that it needs, and print what it found.

    Parameters
    ----------
    request : StudyRequest
    open_in_browser : bool, optional
        Whether to open the report. Default False.

    Returns
    -------
    int
        0 when it has an answer; 1 when the trials cannot tell; 3 when that is because trials failed, and whenever the
        same command has lost trials to run again.

    Raises
    ------
    RecipeError
        When the recipe turns this experiment off.
    """
    from lrscale.study import read_findings

    name = request.command.replace("-", "_")
    recipe, folder = request.load()
    if getattr(recipe.experiments, name) is None:
        raise RecipeError(
            f"{recipe.source} has no experiments.{name}",
            hint=f"add it to the recipe, or use --set experiments.{name}=...",
        )
    with _resumable(request, folder), faults_logged_in(folder.path):
        outcome = _carry_out(request, recipe, folder, with_needs(recipe, name))
        # What earlier runs found stays in the report and carries the recommendation.
        findings = read_findings(folder)
        study = OpenStudy.of(recipe, folder)
        page = write_page(study, findings, write_recommendation(study, findings))
    _print_outcome(outcome, request)
    typer.echo()
    found = [finding for finding in outcome.findings if finding.key == name]
    for finding in found:
        print_finding(finding)
    typer.echo(f"\nreport  {page}")
    if open_in_browser:
        open_page(page)
    if outcome.lost:
        return TRIALS_FAILED
    if any(finding.status == "ok" for finding in found):
        return DONE
    return TRIALS_FAILED if outcome.failed else NO


def print_finding(finding: Finding) -> None:
    """Print the sentence of a finding, below it the checks that ask for something, and its tables."""
    typer.echo(wrapped(finding.sentence, indent="  ", first=""))
    for check in finding.checks:
        if check.status in ("WARNING", "FAIL"):
            remedy = f" -> {check.remedy}" if check.remedy else ""
            typer.echo(wrapped(f"{check.status}: {check.sentence}{remedy}", indent="    ", first="  "))
    for line in table_lines(finding):
        typer.echo(line)


def _carry_out(
    request: StudyRequest, recipe: Recipe, folder: StudyFolder, experiments: Sequence[str] | None
) -> StudyOutcome:
    from lrscale.study import Study

    most = most_trials(recipe, folder, experiments if experiments is not None else asked(recipe))
    progress = make_progress(most, recipe)
    progress.note(f"study {recipe.name} in {folder.path}")
    try:
        settings = dataclasses.replace(launch_settings(recipe, folder, progress.note), address=request.address)
        with make_launcher(request, settings) as launcher:
            return Study(recipe, folder).run(launcher, experiments=experiments, progress=progress)
    finally:
        progress.finished()


def make_launcher(request: StudyRequest, settings: LaunchSettings) -> AbstractLauncher:
    """Return the launcher that a request names, else that of the ranks of torchrun or srun, else the local one."""
    from lrscale.launch import LAUNCHERS, AllocationLauncher
    from lrscale.launch.nodes import WORKER_GROUPS

    if request.address is not None and request.launcher != "ray":
        raise LrscaleError("--address is the address of a Ray cluster", hint="add --launcher ray")
    if request.gathering is not None and request.launcher in (None, *WORKER_GROUPS):
        return AllocationLauncher(settings, request.gathering)
    return LAUNCHERS[request.launcher or "local"](settings)


def launch_settings(
    recipe: Recipe, folder: StudyFolder | None = None, note: Callable[[str], None] | None = None
) -> LaunchSettings:
    """Return what a launcher needs to know of a recipe; modules of its classes are imported once, for all trials.

    Without the study folder it is one for this machine alone.
    """
    from lrscale.launch import LaunchSettings

    task, layout = recipe.task, recipe.layout
    paths = [entry.class_path.rpartition(".")[0] for entry in (task.data, task.model) if entry is not None]
    paths += [entry.partition(":")[0] for entry in (task.factory, task.cli) if entry is not None]
    return LaunchSettings(
        root=recipe.root,
        import_paths=task.import_paths,
        preload=tuple(dict.fromkeys(paths)),
        accelerator=layout.accelerator,
        devices=layout.devices,
        num_nodes=layout.num_nodes,
        trials_at_once=layout.at_once,
        timeout=layout.timeout,
        study=None if folder is None else folder.path,
        slurm=recipe.slurm,
        note=note,
    )


def make_progress(experiments: Mapping[str, int | None], recipe: Recipe) -> AbstractProgress:
    """Return a table for a terminal and lines for anything else; both go to stderr."""
    from rich.console import Console

    console, task = Console(stderr=True), recipe.task.resolved(recipe.root)
    if console.is_terminal and not console.is_dumb_terminal:
        from lrscale.cli.progress_terminal import TerminalProgress

        return TerminalProgress(console, experiments, task=task)
    from lrscale.cli.progress_lines import LineProgress

    return LineProgress(sys.stderr, experiments, task=task)


def most_trials(recipe: Recipe, folder: StudyFolder, experiments: Sequence[str]) -> dict[str, int | None]:
    """Return how many trials each experiment may come to; None for one whose length is known only once it has begun."""
    from lrscale.store import StudyView
    from lrscale.study.experiments import EXPERIMENTS, Context

    facts = folder.read_plan().get("facts", {}) if folder.exists() else {}
    context = Context(recipe=recipe, view=StudyView({}, folder.trajectory), facts=facts, findings={})
    found: dict[str, int | None] = {}
    for name in experiments:
        try:
            found[name] = len(EXPERIMENTS[name].at_most(context))
        except LrscaleError:
            # Epochs, for one, are counted in examples only after the data have been looked at.
            found[name] = None
    return found


def asked(recipe: Recipe) -> list[str]:
    """Return the experiments of a recipe in the order in which a study runs them."""
    from lrscale.study.experiments import EXPERIMENTS

    return [name for name, experiment in EXPERIMENTS.items() if experiment.is_asked(recipe)]


def with_needs(recipe: Recipe, name: str) -> list[str]:
    """Return an experiment and those before it that it needs, as far as the recipe asks them."""
    return [one for one in asked(recipe) if one == name or one in NEEDS.get(name, ())]


def _print_outcome(outcome: StudyOutcome, request: StudyRequest) -> None:
    if outcome.ran == 0:
        missing = "nothing runs within the budget" if outcome.budget else "nothing is missing"
        typer.echo(f"{missing}: {count(outcome.reused, 'trial')} reused")
    else:
        failed = f", {outcome.failed:,} of them failed" if outcome.failed else ""
        typer.echo(f"{count(outcome.ran, 'trial')} run{failed}, {outcome.reused:,} reused")
    for line in outcome.budget:
        typer.echo(wrapped(line, indent="  ", first=""))
    if outcome.lost is not None:
        told = f"{outcome.lost}. Without what was lost {', '.join(outcome.waiting)} cannot go on."
        typer.echo(wrapped(told, indent="  ", first=""))
        typer.echo(wrapped(f"run it again: {request.again()}", indent="    ", first="  "))


@contextmanager
def _resumable(request: StudyRequest, folder: StudyFolder) -> Iterator[None]:
    """Say how to go on when the user, or the batch system, stops the study."""
    from lrscale.launch.signals import sigterm_like_ctrl_c

    with sigterm_like_ctrl_c():
        try:
            yield
        except (KeyboardInterrupt, InterruptedStudyError) as error:
            kept = count(len(folder.records()), "finished trial")
            raise InterruptedStudyError(
                f"{kept} {'is' if kept.startswith('1 ') else 'are'} kept in {folder.path}",
                hint=f"go on with: {request.again()}",
            ) from error
