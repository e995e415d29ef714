"""``--set a.b=c``: one entry of a recipe, changed from the command line."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lrscale.recipe.choices import long_comparison, long_schedule, long_switch
from lrscale.recipe.lines import read_yaml
from lrscale.recipe.problems import EntryPath, Problem, spelled

_KEY = re.compile(r"^(?:[^.\[\]=]+|\[\d+\])(?:\.[^.\[\]=]+|\[\d+\])*$")
_PART = re.compile(r"[^.\[\]]+")

# Entries that have a short form, which is written out before a part of them is set.
_LONG_FORMS: Mapping[EntryPath, Callable[[Any], Any]] = MappingProxyType(
    {
        ("experiments", "range_test"): long_switch,
        ("experiments", "range_test", "confirm"): long_switch,
        ("experiments", "scaling"): long_switch,
        ("experiments", "scaling", "schedule"): long_schedule,
        ("experiments", "search"): long_switch,
        ("experiments", "search", "confirm"): long_switch,
        ("experiments", "search", "schedule"): long_schedule,
        ("experiments", "forecast"): long_switch,
        ("experiments", "factors"): long_switch,
        ("experiments", "throughput"): long_switch,
        ("experiments", "memory"): long_switch,
        ("experiments", "equivalence"): long_switch,
        ("experiments", "rules"): long_switch,
        ("experiments", "schedules", "schedules", "*"): long_schedule,
    }
)
_COMPARISON = ("experiments", "schedules")


def apply_overrides(value: Any, overrides: Sequence[str]) -> tuple[Any, dict[EntryPath, str], list[Problem]]:
    """Set entries of a recipe's plain values.

    Parameters
    ----------
    value : object
        The document; it is not changed.
    overrides : sequence of str
        Each ``a.b=c``, or ``a.b[0]=c`` (also ``a.b.0=c``) for an entry of a list. The value is YAML. Mappings on
        the way are made; later overrides win.

    Returns
    -------
    value : object
        The changed copy.
    sources : dict
        The override that set each path, spelt as it was given.
    problems : list of Problem
        Overrides that cannot be applied.

    Examples
    --------
    >>> changed, _, _ = apply_overrides({"seed": 0}, ["seed=1", "task.model.init_args.lr=1e-3"])
    >>> changed
    {'seed': 1, 'task': {'model': {'init_args': {'lr': 0.001}}}}
    """
    changed = copy.deepcopy(value) if value is not None else {}
    sources: dict[EntryPath, str] = {}
    problems: list[Problem] = []
    for override in overrides:
        source = f"--set {override}"
        key, equals, text = override.partition("=")
        if not equals or not _KEY.match(key.strip()):
            problems.append(Problem("an override is written a.b=c", source=source, hint="for example seed=1"))
            continue
        document = read_yaml(text)
        if document.problems:
            problems.extend(
                Problem(problem.message, hint=problem.hint or "quote the value", source=source)
                for problem in document.problems
            )
            continue
        outcome = _set(changed, _PART.findall(key.strip()), document.value)
        if isinstance(outcome, Problem):
            problems.append(Problem(outcome.message, path=outcome.path, hint=outcome.hint, source=source))
        else:
            sources[outcome] = source
    return changed, sources, problems


def _set(value: Any, parts: Sequence[str], new: Any) -> EntryPath | Problem:
    path: EntryPath = ()
    node: Any = value
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if isinstance(node, list):
            index = _index(part, node)
            if index is None:
                return Problem(f"{spelled(path)} has {len(node)} entries, and no entry {part}", path=path)
            if index == len(node):
                node.append(None)
            key: str | int = index
        elif isinstance(node, dict):
            if path == _COMPARISON and part.isdigit() and isinstance(node.get("schedules"), list):
                return _set(value, [*_COMPARISON, "schedules", *parts[place:]], new)
            key = part
        else:
            return Problem(f"{spelled(path)} is a single value, and has no {part}", path=path)
        path = (*path, key)
        if last:
            node[key] = new
            return path
        current = node.get(key) if isinstance(node, dict) else node[int(key)]
        inner = _long(current, path, parts[place + 1])
        node[key] = {} if inner is None else inner
        node = node[key]
    return path


def _long(current: Any, path: EntryPath, following: str) -> Any:
    if path == _COMPARISON:
        # An index addresses the short form as it stands; a name needs the long one.
        return current if isinstance(current, list) and following.isdigit() else long_comparison(long_switch(current))
    pattern = tuple("*" if isinstance(part, int) else part for part in path)
    if pattern == (*_COMPARISON, "*"):
        return long_schedule(current)
    return _LONG_FORMS.get(pattern, lambda same: same)(current)


def _index(part: str, node: list[Any]) -> int | None:
    return int(part) if part.isdigit() and int(part) <= len(node) else None
