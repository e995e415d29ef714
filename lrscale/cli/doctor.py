"""``lrscale doctor``: is everything there to run a study, and what to do if not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrscale.cli.doctor_checks import Check, environment_checks
from lrscale.cli.guard import DONE, NO
from lrscale.cli.text import count, seconds, wrapped
from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lrscale.launch import AbstractLauncher, LaunchSettings
    from lrscale.store import TrialRecord

LOOPBACK_TIMEOUT = 180.0
"""Seconds for a trial of four steps; loading torch from a cold network disk takes most of a minute."""
LOOPBACK_STEPS = 4
_COLUMN = 9


def examine(recipe: str | None) -> int:
    """Check the environment and, if given, a recipe; return 1 when a check fails."""
    return show(_checks(recipe))


def show(checks: Iterable[Check]) -> int:
    """Print one line per check and return 1 when one of them fails."""
    failed = False
    for check in checks:
        typer.echo(wrapped(f"{check.name}: {check.sentence}", indent=" " * _COLUMN, first=check.status.ljust(_COLUMN)))
        if check.remedy is not None:
            typer.echo(wrapped(f"-> {check.remedy}", indent=" " * (_COLUMN + 3), first=" " * _COLUMN))
        failed = failed or check.status == "FAIL"
    return NO if failed else DONE


def _checks(recipe: str | None) -> Iterator[Check]:
    yield from (environment := environment_checks(Path.cwd()))
    if any(check.status == "FAIL" and check.name in ("packages", "torch", "lightning") for check in environment):
        yield Check(name="ranks", status="INFO", sentence="not tried: packages are missing")
        return
    yield check_ranks("cpu", 2)
    from lrscale.launch.devices import visible_gpus

    gpus = len(visible_gpus())
    if gpus:
        yield check_ranks("gpu", min(2, gpus))
    if recipe is not None:
        yield from check_recipe(recipe)


def check_ranks(accelerator: str, devices: int) -> Check:
    """Train a built-in model for a few steps, with as many ranks as `devices`: imports, processes, DDP and files."""
    from lrscale.launch import LocalLauncher

    what = f"{count(devices, 'rank')} on {'the CPU (gloo)' if accelerator == 'cpu' else 'GPU'}"
    try:
        with tempfile.TemporaryDirectory(prefix="lrscale-doctor-") as scratch:
            with LocalLauncher(rehearsal_settings(Path(scratch), accelerator)) as launcher:
                record = rehearse(launcher, Path(scratch), devices=devices)
    except LrscaleError as error:
        return Check(name="ranks", status="FAIL", sentence=f"{what}: {error.message}", remedy=error.hint)
    return judge(record, "ranks", what, "check that processes may talk over the loopback interface")


def rehearsal_settings(study: Path, accelerator: str) -> LaunchSettings:
    """Return the settings for a trial that shows whether trials can be run at all."""
    from lrscale.launch import LaunchSettings

    return LaunchSettings(root=Path.cwd(), accelerator=accelerator, timeout=LOOPBACK_TIMEOUT, study=study)


def rehearse(launcher: AbstractLauncher, study: Path, *, devices: int, num_nodes: int = 1) -> TrialRecord:
    """Train a built-in model for a few steps on ranks of an entered launcher."""
    from lrscale.launch import SilentProgress, TrialRequest
    from lrscale.recipe import load_recipe
    from lrscale.store import ScheduleSpec, StudyFolder, TrialSpec
    from lrscale.units import Layout

    recipe = load_recipe("digits")
    layout = Layout(per_device_batch_size=16, devices=devices, num_nodes=num_nodes)
    spec = TrialSpec(
        task=recipe.task.resolved(recipe.root),
        schedule=ScheduleSpec(name="constant"),
        peak_lr=1e-3,
        global_batch_size=layout.global_batch_size,
        horizon=LOOPBACK_STEPS,
        seed=0,
    )
    folder = StudyFolder(study).begin_trial(spec)
    request = TrialRequest(spec=spec, layout=layout, folder=folder)
    return next(iter(launcher.run([request], SilentProgress())))


def judge(record: TrialRecord, name: str, what: str, advice: str) -> Check:
    """Return how a rehearsal went; `advice` is what to look at when it failed."""
    if record.status == "completed":
        took = seconds(record.timing.get("total"))
        return Check(name=name, status="PASS", sentence=f"{what} trained {LOOPBACK_STEPS} steps together in {took}")
    last = record.log_tail[-1] if record.log_tail else "no log line"
    return Check(
        name=name,
        status="FAIL",
        sentence=f"{what}: {record.status.replace('_', ' ')}, {record.reason}; last log line: {last}",
        remedy=f"trials would fail like this; {advice}",
    )


def check_recipe(source: str) -> Iterator[Check]:
    """Load a recipe, build its task once, and see whether its layout changes what a step computes."""
    from lrscale.cli.doctor_layout import check_layouts
    from lrscale.cli.init import describe_facts, inspect_task
    from lrscale.recipe import load_recipe

    try:
        recipe = load_recipe(source)
    except LrscaleError as error:
        yield Check(name="recipe", status="FAIL", sentence=error.message, remedy=error.hint)
        return
    yield Check(name="recipe", status="PASS", sentence=f"{recipe.source} is valid")
    try:
        facts, warnings = inspect_task(recipe.task.resolved(recipe.root), recipe.root)
    except LrscaleError as error:
        yield Check(name="task", status="FAIL", sentence=error.message, remedy=error.hint)
        return
    yield Check(name="task", status="PASS", sentence="; ".join(["it can be built", *describe_facts(facts)]))
    for sentence in warnings:
        yield Check(name="task", status="WARNING", sentence=sentence)
    yield check_layouts(recipe)
