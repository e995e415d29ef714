"""How a class is called, read from its source: nothing is imported, so that nothing of the user's runs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import final

MAX_HOPS = 12
"""Re-exports and base classes that are followed before a class counts as not found; a loop ends here too."""


@final
@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a constructor.

    Examples
    --------
    >>> print(Argument("width", "int", "128"))
    width: int = 128
    """

    name: str
    annotation: str | None
    """As written; None without one."""
    default: str | None
    """As written; None when the argument must be given."""

    def __str__(self) -> str:
        text = self.name if self.annotation is None else f"{self.name}: {self.annotation}"
        if self.default is None:
            return text
        return f"{text} = {self.default}" if self.annotation is not None else f"{text}={self.default}"


@final
@dataclass(frozen=True, slots=True)
class SourceSignature:
    """The arguments of a class's constructor."""

    arguments: tuple[Argument, ...]
    takes_any: bool
    """Whether it has ``**kwargs``: more may be accepted than is listed."""
    path: Path
    """The file with the constructor."""


def read_signature(class_path: str, folders: Sequence[Path]) -> SourceSignature | None:
    """Find a class and return the arguments of its constructor.

    Parameters
    ----------
    class_path : str
        ``package.module.Class``. Names that a package imports from its own modules are followed, as are base classes.
    folders : sequence of Path
        Where to look before ``sys.path``.

    Returns
    -------
    SourceSignature or None
        None when there is no such class in Python source, or no constructor can be found by reading alone.
    """
    module, _, name = class_path.rpartition(".")
    return _of_class(module, name, [str(folder) for folder in folders], MAX_HOPS) if module else None


def read_logged_names(class_path: str, folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the names that the file of a class passes to ``log`` and ``log_dict``, as far as they are plain text.

    Parameters
    ----------
    class_path, folders
        As for `read_signature`.

    Returns
    -------
    tuple of str
        In the order of the file; empty when nothing is logged under a plain name.
    """
    module, _, name = class_path.rpartition(".")
    found = _find_class(module, name, [str(folder) for folder in folders], MAX_HOPS) if module else None
    if found is None:
        return ()
    names: dict[str, None] = {}
    for call in ast.walk(found.node):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
            continue
        first = call.args[0]
        if call.func.attr == "log":
            candidates: Sequence[ast.expr | None] = [first]
        elif call.func.attr == "log_dict" and isinstance(first, ast.Dict):
            candidates = first.keys
        else:
            continue
        texts = [one.value for one in candidates if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        names.update(dict.fromkeys(texts))
    return tuple(names)


def find_source(module: str, folders: Sequence[str]) -> tuple[Path, bool] | None:
    """Return the source file of a module and whether it is a package, without importing its parents."""
    search: Sequence[str] = [*folders, *sys.path]
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for place in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: place + 1]), list(search))
        if spec is None:
            return None
        if place < len(parts) - 1:
            if spec.submodule_search_locations is None:
                return None
            search = list(spec.submodule_search_locations)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin), spec.submodule_search_locations is not None


@final
@dataclass(frozen=True, slots=True)
class _FoundClass:
    node: ast.ClassDef
    module: str
    is_package: bool
    path: Path
    tree: ast.Module


def _find_class(module: str, name: str, folders: Sequence[str], hops: int) -> _FoundClass | None:
    found = find_source(module, folders) if hops > 0 else None
    if found is None:
        return None
    path, is_package = found
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _FoundClass(node, module, is_package, path, tree)
    source = _imported_from(tree, module, is_package, name)
    return None if source is None else _find_class(*source, folders, hops - 1)


def _of_class(module: str, name: str, folders: Sequence[str], hops: int) -> SourceSignature | None:
    found = _find_class(module, name, folders, hops)
    if found is None:
        return None
    for item in found.node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item, found.path)
    # A generic base is written Base[T]: what is called is Base.
    for base in [one.value if isinstance(one, ast.Subscript) else one for one in found.node.bases]:
        if not isinstance(base, ast.Name) or base.id == name:
            continue
        local = any(isinstance(one, ast.ClassDef) and one.name == base.id for one in ast.walk(found.tree))
        source = (
            (found.module, base.id) if local else _imported_from(found.tree, found.module, found.is_package, base.id)
        )
        inherited = None if source is None else _of_class(*source, folders, hops - 1)
        if inherited is not None:
            return inherited
    return None


def _of_function(node: ast.FunctionDef, path: Path) -> SourceSignature:
    positional = [*node.args.posonlyargs, *node.args.args]
    missing = len(positional) - len(node.args.defaults)
    defaults: list[ast.expr | None] = [None] * missing + list(node.args.defaults)
    pairs = [*zip(positional, defaults, strict=True)][1:]
    pairs += [*zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    arguments = tuple(
        Argument(
            argument.arg,
            None if argument.annotation is None else ast.unparse(argument.annotation),
            None if default is None else ast.unparse(default),
        )
        for argument, default in pairs
    )
    return SourceSignature(arguments, node.args.kwarg is not None, path)


def _imported_from(tree: ast.Module, module: str, is_package: bool, name: str) -> tuple[str, str] | None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                return _absolute(node, module, is_package), alias.name
    return None


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    up = node.level - 1 if is_package else node.level
    base = parts[: len(parts) - up] if up else parts
    return ".".join([*base, *([node.module] if node.module else [])])
