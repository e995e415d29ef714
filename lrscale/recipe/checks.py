"""Rules that span the sections of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from lrscale.errors import LayoutError
from lrscale.recipe.choices import MODULE
from lrscale.recipe.experiments import Experiments, Target
from lrscale.recipe.problems import EntryPath, Problem, spelled
from lrscale.recipe.schema import LayoutSettings
from lrscale.recipe.slurm import SlurmSettings
from lrscale.units import Duration, split_global_batch

MIN_STEPS = 2
"""Fewest steps of a trial: a schedule needs a beginning and an end."""


def cross_problems(value: Any) -> list[Problem]:
    """Return what is wrong between the sections of a recipe's plain values.

    Sections that are not valid by themselves are passed over: their own problems are reported elsewhere.

    Parameters
    ----------
    value : object
        The document, overrides applied.

    Returns
    -------
    list of Problem
        Batches that the layout cannot form, batches that make too few steps of a horizon, and jobs that a trial does
        not fit into.
    """
    if not isinstance(value, dict):
        return []
    try:
        layout = LayoutSettings.model_validate(value.get("layout") or {})
    except ValidationError:
        return []
    found: list[Problem] = list(_job_problems(layout, value.get("slurm")))
    try:
        experiments = Experiments.model_validate(value.get("experiments") or {})
    except ValidationError:
        pass
    else:
        for path, size in _batch_sizes(experiments):
            found.extend(_split_problem(layout, path, size))
        found.extend(_short_trials(experiments))
        found.extend(_replaced_optimizers(experiments, value.get("task")))
    try:
        target = None if value.get("target") is None else Target.model_validate(value["target"])
    except ValidationError:
        return found
    if target is not None and target.batch_size is not None:
        found.extend(_split_problem(layout, ("target", "batch_size"), target.batch_size))
    return found


def _batch_sizes(experiments: Experiments) -> Iterator[tuple[EntryPath, int]]:
    if experiments.range_test is not None and experiments.range_test.batch_size is not None:
        yield ("experiments", "range_test", "batch_size"), experiments.range_test.batch_size
    for name in ("range_test", "scaling", "search", "forecast", "noise_scale"):
        yield from _listed_sizes(experiments, name)
    for name in ("schedules", "factors", "horizons", "critical_batch", "growing_batch"):
        section = getattr(experiments, name)
        if section is not None and section.batch_size is not None:
            yield ("experiments", name, "batch_size"), section.batch_size


def _listed_sizes(experiments: Experiments, name: str) -> Iterator[tuple[EntryPath, int]]:
    section = getattr(experiments, name)
    sizes = () if section is None else section.batch_sizes or ()
    for index, size in enumerate(sizes):
        yield ("experiments", name, "batch_sizes", index), size


def _split_problem(layout: LayoutSettings, path: EntryPath, size: int) -> Iterator[Problem]:
    try:
        split_global_batch(
            size,
            devices=layout.devices,
            num_nodes=layout.num_nodes,
            per_device_batch_size=layout.per_device_batch_size,
            max_per_device_batch_size=layout.max_per_device_batch_size,
        )
    except LayoutError as error:
        yield Problem(f"{spelled(path)}: {error.message}", path=path, hint=error.hint)


def _short_trials(experiments: Experiments) -> Iterator[Problem]:
    scaling, schedules = experiments.scaling, experiments.schedules
    search, forecast, noise = experiments.search, experiments.forecast, experiments.noise_scale
    usual = () if scaling is None else (scaling.horizon,)
    horizons = {
        "scaling": usual,
        "search": (search.horizon,) if search is not None and search.horizon is not None else usual,
        "forecast": (forecast is not None and forecast.horizons) or usual,
        "noise_scale": (noise.horizon,) if noise is not None and noise.horizon is not None else (),
    }
    for name, lengths in horizons.items():
        for path, size in _listed_sizes(experiments, name):
            for horizon in lengths:
                yield from _too_short(path, size, horizon)
    for section_name, section in (("schedules", schedules), ("factors", experiments.factors)):
        if section is not None and section.batch_size is not None:
            for horizon in usual if section.horizon is None else (section.horizon,):
                yield from _too_short(("experiments", section_name, "batch_size"), section.batch_size, horizon)


def _replaced_optimizers(experiments: Experiments, task: Any) -> Iterator[Problem]:
    if experiments.schedules is None or not isinstance(task, dict) or task.get("schedule") != MODULE:
        return
    for index, optimizer in enumerate(experiments.schedules.optimizers):
        if not optimizer.is_own:
            path: EntryPath = ("experiments", "schedules", "optimizers", index)
            yield Problem(
                f"{spelled(path)}: {optimizer.label} would train without the module's own schedulers, and "
                "task.schedule is module",
                path=path,
                hint="leave task.schedule out, or optimizers at [module]",
            )


def _too_short(path: EntryPath, size: int, horizon: Duration) -> Iterator[Problem]:
    if horizon.unit == "examples" and horizon.value < MIN_STEPS * size:
        yield Problem(
            f"{spelled(path)}: a batch of {size} makes {horizon.value // size} steps of {horizon}, "
            f"fewer than {MIN_STEPS}",
            path=path,
            hint=f"use a smaller batch, or a horizon of at least {Duration(MIN_STEPS * size, 'examples')}",
        )


def _job_problems(layout: LayoutSettings, value: Any) -> Iterator[Problem]:
    """Yield what of a trial does not fit into one of the jobs that `slurm` asks for."""
    try:
        slurm = SlurmSettings.model_validate(value or {})
    except ValidationError:
        return
    if slurm.nodes is not None and slurm.nodes < layout.num_nodes:
        yield Problem(
            f"slurm.nodes is {slurm.nodes}, and layout.num_nodes of one trial is {layout.num_nodes}",
            path=("slurm", "nodes"),
            hint=f"set slurm.nodes: {layout.num_nodes}, or leave it out",
        )
    if slurm.gpu_count is not None and slurm.gpu_count < layout.devices:
        yield Problem(
            f"slurm.gpus is {slurm.gpus} a node, and layout.devices of one trial is {layout.devices}",
            path=("slurm", "gpus"),
            hint=f"ask for at least {layout.devices}, or set layout.devices: {slurm.gpu_count}",
        )
    if slurm.gpu_count is not None and layout.accelerator == "cpu":
        yield Problem(
            f"slurm.gpus asks for {slurm.gpus} a node, and layout.accelerator is cpu",
            path=("slurm", "gpus"),
            hint="remove one of them",
        )
