"""A recipe whose experiments ask less, as a budget leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrscale.recipe.schema import Recipe


def with_settings(recipe: Recipe, settings: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Return a recipe in which some experiments have other settings; all else, its place included, is kept.

    Parameters
    ----------
    recipe : Recipe
    settings : mapping
        Experiment -> field -> value, as a recipe spells it. Experiments that the recipe does not ask are passed over.

    Examples
    --------
    >>> recipe = Recipe.model_validate({"name": "demo", "task": {"model": {"class_path": "shop.Net"}}})
    >>> with_settings(recipe, {"range_test": {"seeds": 1}}).experiments.range_test.seeds
    1
    """
    changed = {}
    for name, own in settings.items():
        section = getattr(recipe.experiments, name, None)
        if section is not None and own:
            changed[name] = type(section).model_validate({**section.model_dump(mode="json"), **own})
    if not changed:
        return recipe
    return recipe.model_copy(update={"experiments": recipe.experiments.model_copy(update=changed)})
