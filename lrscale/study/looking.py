"""What is found out about a task before its first trial: by a look at it, and at the size of the target's module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrscale.errors import TaskError
from lrscale.launch import AbstractLauncher
from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.study.variants import variant_recipe
from lrscale.units import Layout

TARGET_FACTORS, TARGET_PARAMETERS = "target_factors", "target_parameters"
"""Facts: the entries of the task that the recipe's target has, and the parameters of the module that they make."""
_FOLDER = "inspect"


def look_at(
    recipe: Recipe, facts: Mapping[str, Any] | None, launcher: AbstractLauncher, folder: Path
) -> dict[str, Any]:
    """Return the facts about a task, those that are known taken over.

    Parameters
    ----------
    recipe : Recipe
    facts : mapping or None
        Of an earlier run; None before the first.
    launcher : AbstractLauncher
        Where the look is taken; entered by the caller.
    folder : Path
        Of the study.

    Raises
    ------
    TaskError
        When the task, or the target's module, cannot be built.
    """
    # One forward's worth of examples is enough to look at the task; a spec is only its carrier.
    scaling = recipe.experiments.scaling
    world = recipe.layout.devices * recipe.layout.num_nodes
    size = max(2, min(scaling.batch_sizes) // world) if scaling is not None else 2
    layout = Layout(per_device_batch_size=size)
    if facts is None:
        facts = launcher.inspect({"spec": _carrier(recipe, size).to_dict()}, layout, folder / _FOLDER)
    known = {name: value for name, value in facts.items() if name not in (TARGET_FACTORS, TARGET_PARAMETERS)}
    factors = None if recipe.target is None else recipe.target.factors
    if factors is None:
        return known
    if facts.get(TARGET_FACTORS) == dict(factors):
        return dict(facts)
    larger = variant_recipe(recipe, factors, where="target.factors")
    job = {
        "spec": _carrier(larger, size).to_dict(),
        "calibrated": {"task": recipe.task.resolved(recipe.root), "parameters": facts.get("parameters")},
    }
    try:
        sizes = launcher.inspect(job, layout, folder / _FOLDER)
    except TaskError as error:
        raise TaskError(
            f"target.factors: {error.message}", hint=error.hint or "state target.params in their place"
        ) from error
    return {**known, TARGET_FACTORS: dict(factors), TARGET_PARAMETERS: sizes["parameters"]}


def _carrier(recipe: Recipe, size: int) -> TrialSpec:
    return TrialSpec(
        task=recipe.task.resolved(recipe.root),
        schedule=ScheduleSpec(name="constant"),
        peak_lr=1e-3,
        global_batch_size=size,
        horizon=1,
        seed=recipe.seed,
    )
