"""Where in a config a value stands: under a key that is named, or the only one of a telling name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from lrscale.errors import LrscaleError, did_you_mean

T = TypeVar("T")

ELSEWHERE = ("callbacks", "logger", "plugins", "profiler", "strategy", "ckpt_path")
"""Parts of a config whose keys name other things than how the module trains."""

_ITEM = re.compile(r"\[(\d+)\]")


def entries(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key, mappings and lists included.

    Examples
    --------
    >>> [key for key, _ in entries({"model": {"lr": 0.1, "betas": [0.9, 0.99]}, "logger": {"lr": 3}})]
    ['model', 'model.lr', 'model.betas', 'model.betas[0]', 'model.betas[1]']
    """
    if key:
        yield key, node
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name not in ELSEWHERE:
                yield from entries(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from entries(value, f"{key}[{index}]")


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, where ``init_args`` may be left out.

    Raises
    ------
    LrscaleError
        When there is none, with the nearest key.
    """
    node: Any = config
    for name in _ITEM.sub(r".\1", key).split("."):
        if isinstance(node, Mapping) and "class_path" in node and name not in ("class_path", "init_args"):
            node = node.get("init_args") or {}
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            raise LrscaleError(
                f"the config has no {key}", hint=did_you_mean(key, [known for known, _ in entries(config)])
            )
    return node


def only(
    config: Mapping[str, Any], names: Sequence[str], read: Callable[[Any], T | None], name: str
) -> tuple[str, T] | None:
    """Return the one value whose key ends in one of the names, and its key; None where there is none.

    Parameters
    ----------
    config : mapping
    names : sequence of str
        Last words of the key, the most telling first; a later one counts only where no earlier one is there.
    read : callable
        From a value to what it says, or None where it says nothing.
    name : str
        What is looked for, by its name in ``--key``.

    Raises
    ------
    LrscaleError
        When several keys say different things.
    """
    for last in names:
        found = {
            key: value
            for key, plain in entries(config)
            if key.rpartition(".")[2] == last and (value := read(plain)) is not None
        }
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{key} {value}" for key, value in found.items())
            raise LrscaleError(
                f"the config says more than one thing about {name}: {listed}",
                hint=f"say which one counts: --key {name}={next(iter(found))}",
            )
        if found:
            return next(iter(found.items()))
    return None
