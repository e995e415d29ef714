"""From pydantic's findings to sentences that name the field, the rule and the remedy."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, UnionType
from typing import Any, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lrscale.errors import did_you_mean
from lrscale.recipe.fields import SENTENCE, shown
from lrscale.recipe.problems import EntryPath, Problem, spelled
from lrscale.recipe.schema import Recipe

_Context = Mapping[str, Any]

# What pydantic 2 calls each violation (docs: errors/validation_errors), and the rest of a sentence about it.
_RULES: Mapping[str, Callable[[_Context, Any], str]] = MappingProxyType(
    {
        "greater_than": lambda rule, value: f"must be greater than {rule['gt']:g}, not {shown(value)}",
        "greater_than_equal": lambda rule, value: f"must be at least {rule['ge']:g}, not {shown(value)}",
        "less_than": lambda rule, value: f"must be less than {rule['lt']:g}, not {shown(value)}",
        "less_than_equal": lambda rule, value: f"must be at most {rule['le']:g}, not {shown(value)}",
        "too_short": lambda _, __: "is an empty list: there is nothing to compare",
        "string_too_short": lambda _, __: "must not be empty",
        "string_pattern_mismatch": lambda _, value: f"must be of letters, digits, dots and dashes, not {shown(value)}",
        "string_type": lambda _, value: f"must be text, not {shown(value)}",
        "bool_type": lambda _, value: f"must be true or false, not {shown(value)}",
        "float_type": lambda _, value: f"must be a number, not {shown(value)}",
        "float_parsing": lambda _, value: f"must be a number, not {shown(value)}",
        "finite_number": lambda _, value: f"must be finite, not {shown(value)}",
        "int_type": lambda _, value: f"must be a whole number, not {shown(value)}",
        "tuple_type": lambda _, value: f"must be a list, not {shown(value)}",
        "list_type": lambda _, value: f"must be a list, not {shown(value)}",
        "dict_type": lambda _, value: f"must be a mapping, not {shown(value)}",
        "model_type": lambda _, value: f"must be a mapping, not {shown(value)}",
        "missing": lambda _, __: "is missing",
    }
)

_MISSING_HINTS: Mapping[str, str] = MappingProxyType(
    {
        "name": "add a line such as name: my-study",
        "task": "add task with model and data, or config, or factory",
        "class_path": "name the class, such as class_path: my_package.Net, with its arguments under init_args",
        "batch_sizes": "list the global batch sizes, such as [64, 256, 1024]",
        "horizon": 'state the length of a trial, such as "40k examples"',
        "schedules": "list schedules, such as [cosine, wsd]",
    }
)


def problems_of(error: ValidationError) -> list[Problem]:
    """Return one problem per violation, without lines.

    Parameters
    ----------
    error : pydantic.ValidationError
        From validating a `Recipe`.

    Examples
    --------
    >>> try:
    ...     Recipe.model_validate({"name": "demo", "tsk": {}, "task": {"model": {"class_path": "shop.Net"}}})
    ... except ValidationError as error:
    ...     [(problem.message, problem.hint) for problem in problems_of(error)]
    [('tsk is not known', 'did you mean task?')]
    """
    found = error.errors(include_url=False)
    # A list whose every entry is refused is called too short as well; its entries' problems say it better.
    return [
        _problem(details)
        for details in found
        if details["type"] != "too_short" or not any(_inside(other["loc"], details["loc"]) for other in found)
    ]


def known_names(path: Sequence[str | int]) -> list[str]:
    """Return the names that a recipe knows at a path; empty where anything goes.

    Examples
    --------
    >>> known_names(["task", "model"])
    ['class_path', 'init_args']
    """
    section = _section_at(path)
    return [] if section is None else list(section.model_fields)


def _inside(location: Sequence[str | int], outer: Sequence[str | int]) -> bool:
    return len(location) > len(outer) and tuple(location[: len(outer)]) == tuple(outer)


def _problem(details: ErrorDetails) -> Problem:
    place, kind, value = details["loc"], details["type"], details["input"]
    path = _as_written(place)
    rule = details.get("ctx", {})
    if kind == SENTENCE:
        return Problem(f"{spelled(path)} {rule['sentence']}", path=path, hint=rule.get("hint"))
    if kind == "extra_forbidden":
        return Problem(
            f"{spelled(path)} is not known", path=path, hint=did_you_mean(str(path[-1]), known_names(place[:-1]))
        )
    if kind == "union_tag_invalid":
        choices = [choice.strip("'") for choice in str(rule["expected_tags"]).split(", ")]
        return Problem(
            f"{spelled(path)} must be one of {', '.join(choices)}, not {shown(rule['tag'])}",
            path=path,
            hint=did_you_mean(str(rule["tag"]), choices),
        )
    if kind == "literal_error":
        choices = [choice.strip("'") for choice in str(rule["expected"]).replace(" or ", ", ").split(", ")]
        return Problem(
            f"{spelled(path)} must be one of {', '.join(choices)}, not {shown(value)}",
            path=path,
            hint=did_you_mean(value, choices) if isinstance(value, str) else None,
        )
    hint: str | None = None
    if kind == "missing" and path:
        hint = _MISSING_HINTS.get(str(path[-1]))
        if path[-1] == "name" and len(path) > 1:
            hint = "name a schedule, such as cosine"
    said = _RULES[kind](rule, value) if kind in _RULES else f"is not valid: {details['msg']}"
    if value is None and kind in ("model_type", "dict_type", "tuple_type"):
        said = "is empty"
    if kind in ("model_type", "dict_type") and path:
        hint = f"write its names below it: {', '.join(names)}" if (names := known_names(place)) else None
    return Problem(f"{spelled(path)} {said}", path=path, hint=hint)


def _section_at(path: Sequence[str | int]) -> type[BaseModel] | None:
    annotation: Any = Recipe
    for part in path:
        annotation = _step(annotation, part)
    return _as_section(annotation)


def _as_written(place: Sequence[str | int]) -> EntryPath:
    """Return a path without the names of members of a family, which pydantic puts between the keys."""
    annotation: Any = Recipe
    path: list[str | int] = []
    for part in place:
        if _member(annotation, part) is None:
            path.append(part)
        annotation = _step(annotation, part)
    return tuple(path)


def _member(annotation: Any, part: str | int) -> type[BaseModel] | None:
    """Return the member of that name where a family of sections may stand, or None."""
    sections = [one for one in _options(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    named = [one for one in sections if len(sections) > 1 and part in typing.get_args(_kind_of_name(one))]
    return named[0] if named else None


def _kind_of_name(section: type[BaseModel]) -> Any:
    field = section.model_fields.get("name")
    return None if field is None else field.annotation


def _step(annotation: Any, part: str | int) -> Any:
    member = _member(annotation, part)
    if member is not None:
        return member
    section = _as_section(annotation)
    if section is not None:
        field = section.model_fields.get(str(part))
        return None if field is None else field.annotation
    for option in _options(annotation):
        if typing.get_origin(option) is tuple:
            return typing.get_args(option)[0]
    return None


def _as_section(annotation: Any) -> type[BaseModel] | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _options(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _options(typing.get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [inner for option in typing.get_args(annotation) for inner in _options(option)]
    return [annotation]
