"""The recipes that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

_PACKAGE = Path(__file__).resolve().parents[1]
# An installed wheel carries the recipes inside the package; a source checkout has them at its top, where people look.
_FOLDERS = (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes")


@final
@dataclass(frozen=True, slots=True)
class BuiltinRecipe:
    """A recipe that is found by name."""

    name: str
    path: Path
    description: str
    """The first sentence of the comment at its top; empty where it has none."""


def builtin_recipes() -> dict[str, BuiltinRecipe]:
    """Return the built-in recipes by name, in alphabetical order.

    Examples
    --------
    >>> "digits" in builtin_recipes()
    True
    """
    folder = next((folder for folder in _FOLDERS if any(folder.glob("*.yaml"))), None)
    paths = sorted(folder.glob("*.yaml")) if folder is not None else []
    return {path.stem: BuiltinRecipe(path.stem, path, first_comment(path)) for path in paths}


def first_comment(path: Path) -> str:
    """Return the first comment line of a file, without its mark; empty when the file begins otherwise."""
    with path.open(encoding="utf-8") as stream:
        line = stream.readline()
    return line.lstrip("#").strip() if line.startswith("#") else ""
