"""Config files as a job reads them: later ones on top of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrscale.errors import LrscaleError
from lrscale.recipe.lines import read_yaml


def read_merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the merged content of YAML files; what stands under ``fit`` is the config.

    Merged as LightningCLI merges several ``--config`` (jsonargparse): mappings key by key, a key that ends in ``+``
    appended to a list, and the arguments of another class in place of those of the first. Nothing in the files is
    executed or imported.

    Raises
    ------
    LrscaleError
        When a file cannot be read, or is no mapping.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, _fit_part(_read(path)))
    return merge({}, merged)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return one mapping on top of another.

    Examples
    --------
    >>> merge({"trainer": {"callbacks": ["a"], "devices": 1}}, {"trainer": {"callbacks+": ["b"]}})
    {'trainer': {'callbacks': ['a', 'b'], 'devices': 1}}
    """
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        below = {}
    merged = dict(below)
    for key, value in above.items():
        name = str(key)
        if name.endswith("+"):
            own = merged.get(name[:-1]) or []
            more = value if isinstance(value, list) else [value]
            merged[name[:-1]] = [*(own if isinstance(own, list) else [own]), *more]
        elif isinstance(value, Mapping):
            own = merged.get(name)
            merged[name] = merge(own if isinstance(own, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _fit_part(config: dict[str, Any]) -> dict[str, Any]:
    # A file from `--print_config` of the whole program keeps everything under the subcommand.
    return dict(config["fit"]) if isinstance(config.get("fit"), dict) else config


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise LrscaleError(f"{path} is no config file", hint="name a YAML file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LrscaleError(f"cannot read the config {path}: {error}") from error
    document = read_yaml(text)
    if document.problems:
        first = document.problems[0]
        where = f"{path} line {first.line}" if first.line else str(path)
        raise LrscaleError(f"{where}: {first.message}", hint=first.hint)
    if not isinstance(document.value, dict):
        raise LrscaleError(f"{path} is not a mapping", hint="give a LightningCLI config, or lines such as lr: 1e-3")
    return document.value
