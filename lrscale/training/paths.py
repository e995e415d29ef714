"""Dotted paths into configs and objects: where users keep an LR or a batch size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from lrscale.errors import TaskError, did_you_mean

CONFIG_ROOTS = ("model", "data", "trainer")
"""First words of a path that point into the task's config; any other points into the built objects."""


def lr_paths(task: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths of the LR that the recipe names; the first is the reference of tied values."""
    paths = task.get("lr") or []
    return [paths] if isinstance(paths, str) else list(paths)


def tied_values(paths: list[str], read: Callable[[str], Any], peak_lr: float) -> dict[str, float]:
    """Return the value of each tied LR: the first at the peak, the others at their ratio to the first."""
    values = [read(path) for path in paths]
    first = float(values[0]) if values and values[0] else None
    scaled = {}
    for path, value in zip(paths, values, strict=True):
        ratio = float(value) / first if first and value is not None else 1.0
        scaled[path] = peak_lr * ratio
    return scaled


def with_overrides(task: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the task with dotted keys set.

    Examples
    --------
    >>> with_overrides({"model": {"class_path": "m.Net"}}, {"model.init_args.width": 8})["model"]["init_args"]
    {'width': 8}
    """
    changed = copy.deepcopy(dict(task))
    for path, value in overrides.items():
        set_in_config(changed, path, value)
    return changed


def set_in_config(config: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted key, making the mappings on the way; ``init_args`` may be left out where a class is named.

    Raises
    ------
    TaskError
        When the path runs through a value that is not a mapping.
    """
    node: Any = config
    *way, last = path.split(".")
    for name in (*way, None):
        if not isinstance(node, MutableMapping):
            raise TaskError(f"path {path} runs through {name or last}, whose owner is not a mapping")
        wanted = last if name is None else name
        if "class_path" in node and wanted not in ("class_path", "init_args"):
            if node.get("init_args") is None:
                node["init_args"] = {}
            node = node["init_args"]
        if name is None:
            node[last] = value
        else:
            if node.get(name) is None:
                node[name] = {}
            node = node[name]


def get_in_config(config: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted key, or None where there is none; ``init_args`` may be left out."""
    node: Any = config
    for name in path.split("."):
        if isinstance(node, Mapping) and "class_path" in node and name not in ("class_path", "init_args"):
            node = node.get("init_args") or {}
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node


def set_in_object(owner: Any, path: str, value: Any, where: str) -> None:
    """Set an attribute, item or nested config node of a built object; a number counts into a list.

    Raises
    ------
    TaskError
        When a name on the way does not exist, with the nearest one.
    """
    *way, last = path.split(".")
    for name in way:
        owner = _member(owner, name, where)
    _member(owner, last, where)
    if isinstance(owner, MutableMapping):
        owner[last] = value
    elif isinstance(owner, list):
        owner[int(last)] = value
    else:
        setattr(owner, last, value)


def get_in_object(owner: Any, path: str, where: str) -> Any:
    """Return an attribute, item or nested config node of a built object."""
    for name in path.split("."):
        owner = _member(owner, name, where)
    return owner


def _member(owner: Any, name: str, where: str) -> Any:
    if isinstance(owner, Mapping):
        if name in owner:
            return owner[name]
        known = [str(key) for key in owner]
    elif isinstance(owner, (list, tuple)):
        if name.isdigit() and int(name) < len(owner):
            return owner[int(name)]
        known = [str(index) for index in range(len(owner))]
    else:
        if hasattr(owner, name):
            return getattr(owner, name)
        known = [known for known in dir(owner) if not known.startswith("_")]
    raise TaskError(f"{where}: {type(owner).__name__} has no {name}", hint=did_you_mean(name, known))
