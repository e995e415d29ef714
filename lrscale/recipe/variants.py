"""Versions of the task: entries of it with other values, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from lrscale.recipe.fields import refuse, shown

NAME = "name"
"""Key that names a variant; the others are overrides."""
TASK = "task."
"""How the path of an entry of the task begins."""


def variants(value: Any) -> Any:
    """Return ``[{path: value, ...}, ...]`` for its short form, paths with a list of values each; lists as they are.

    Examples
    --------
    >>> variants({"task.model.init_args.width": [32, 64]})
    [{'task.model.init_args.width': 32}, {'task.model.init_args.width': 64}]
    """
    if not isinstance(value, Mapping):
        return value
    for path, own in value.items():
        if not isinstance(own, list) or not own:
            refuse(f"gives {path} no list of values: {shown(own)}", hint="write for example [32, 64, 128]")
    lengths = {path: len(own) for path, own in value.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{path} has {count}" for path, count in lengths.items())
        refuse(f"moves its entries together, and {told}", hint="give each the same number of values")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


Variants = Annotated[
    tuple[Mapping[str, Any], ...],
    BeforeValidator(variants),
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}),
]


def require_task_paths(variant: Mapping[str, Any]) -> None:
    """Refuse a variant that sets something besides entries of the task."""
    for path in variant:
        if path != NAME and not path.startswith(TASK):
            refuse(f"sets {path}, which is no entry of the task", hint="write for example task.model.init_args.width")


def overrides_of(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variant without its name."""
    return {path: value for path, value in variant.items() if path != NAME}


def label_of(variant: Mapping[str, Any]) -> str:
    """Return a variant's name, or its values with the last part of their path.

    Examples
    --------
    >>> label_of({"task.model.init_args.width": 32, "task.model.init_args.depth": 2}), label_of({"name": "small"})
    ('width 32, depth 2', 'small')
    """
    if NAME in variant:
        return str(variant[NAME])
    return ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in variant.items())
