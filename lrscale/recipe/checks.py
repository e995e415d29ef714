"""Rules that span the sections of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from lrscale.errors import LayoutError
from lrscale.recipe.experiments import Experiments, Target
from lrscale.recipe.problems import EntryPath, Problem, spelled
from lrscale.recipe.schema import LayoutSettings
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
        Batches that the layout cannot form, and batches that make too few steps of a horizon.
    """
    if not isinstance(value, dict):
        return []
    try:
        layout = LayoutSettings.model_validate(value.get("layout") or {})
    except ValidationError:
        return []
    found: list[Problem] = []
    try:
        experiments = Experiments.model_validate(value.get("experiments") or {})
    except ValidationError:
        pass
    else:
        for path, size in _batch_sizes(experiments):
            found.extend(_split_problem(layout, path, size))
        found.extend(_short_trials(experiments))
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
    if experiments.range_test is not None:
        for index, size in enumerate(experiments.range_test.batch_sizes or ()):
            yield ("experiments", "range_test", "batch_sizes", index), size
    if experiments.scaling is not None:
        for index, size in enumerate(experiments.scaling.batch_sizes):
            yield ("experiments", "scaling", "batch_sizes", index), size
    if experiments.search is not None:
        for index, size in enumerate(experiments.search.batch_sizes or ()):
            yield ("experiments", "search", "batch_sizes", index), size
    if experiments.schedules is not None and experiments.schedules.batch_size is not None:
        yield ("experiments", "schedules", "batch_size"), experiments.schedules.batch_size
    if experiments.noise_scale is not None:
        for index, size in enumerate(experiments.noise_scale.batch_sizes or ()):
            yield ("experiments", "noise_scale", "batch_sizes", index), size


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
    if scaling is not None:
        for index, size in enumerate(scaling.batch_sizes):
            yield from _too_short(("experiments", "scaling", "batch_sizes", index), size, scaling.horizon)
    if schedules is not None and schedules.batch_size is not None:
        horizon = schedules.horizon or (scaling.horizon if scaling is not None else None)
        if horizon is not None:
            yield from _too_short(("experiments", "schedules", "batch_size"), schedules.batch_size, horizon)
    search = experiments.search
    if search is not None and search.horizon is not None:
        for index, size in enumerate(search.batch_sizes or ()):
            yield from _too_short(("experiments", "search", "batch_sizes", index), size, search.horizon)
    noise = experiments.noise_scale
    if noise is not None and noise.horizon is not None:
        for index, size in enumerate(noise.batch_sizes or ()):
            yield from _too_short(("experiments", "noise_scale", "batch_sizes", index), size, noise.horizon)


def _too_short(path: EntryPath, size: int, horizon: Duration) -> Iterator[Problem]:
    if horizon.unit == "examples" and horizon.value < MIN_STEPS * size:
        yield Problem(
            f"{spelled(path)}: a batch of {size} makes {horizon.value // size} steps of {horizon}, "
            f"fewer than {MIN_STEPS}",
            path=path,
            hint=f"use a smaller batch, or a horizon of at least {Duration(MIN_STEPS * size, 'examples')}",
        )
