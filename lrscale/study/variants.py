"""The recipe of another version of the task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lrscale.errors import LrscaleError
from lrscale.recipe import Recipe
from lrscale.recipe.overrides import apply_overrides
from lrscale.recipe.task import Task


def variant_recipe(recipe: Recipe, overrides: Mapping[str, Any], *, where: str) -> Recipe:
    """Return a recipe whose task has some entries replaced.

    Parameters
    ----------
    recipe : Recipe
    overrides : mapping of str to object
        Paths of entries, ``task.model.init_args.width``, with their values.
    where : str
        Entry of the recipe that asks for it, for messages.

    Raises
    ------
    LrscaleError
        When the task has no such entry, or the value does not fit it.
    """
    if not overrides:
        return recipe
    plain = {"task": recipe.task.model_dump(mode="json")}
    written = [f"{path}={json.dumps(value)}" for path, value in overrides.items()]
    changed, _, problems = apply_overrides(plain, written)
    if problems:
        raise LrscaleError(f"{where}: {problems[0].message}", hint=problems[0].hint)
    try:
        task = Task.model_validate(changed["task"])
    except ValueError as error:
        raise LrscaleError(f"{where} cannot set {', '.join(overrides)}: {error}") from error
    return recipe.model_copy(update={"task": task})
