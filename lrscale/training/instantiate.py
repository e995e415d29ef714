"""From ``class_path`` and ``init_args`` to an object, by a plain import and a plain call."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from lrscale.errors import TaskError, did_you_mean

_SIMPLE = (bool, int, float, str)


def import_object(path: str) -> Any:
    """Return what a dotted path names; ``package.module:name`` is taken too.

    Raises
    ------
    TaskError
        When the module or the name is not there, with the nearest name.
    """
    module_name, _, name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise TaskError(f"{path} is not a dotted path", hint="write package.module.Name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise TaskError(f"importing {module_name} failed: {error}", hint="install what it needs") from error
        owner, _, _ = module_name.rpartition(".")
        if owner:
            return getattr(import_object(module_name), name)
        raise TaskError(
            f"there is no module {error.name}, which {path} needs",
            hint="install it, or name its folder in task.import_paths",
        ) from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        public = [known for known in dir(module) if not known.startswith("_")]
        raise TaskError(f"module {module_name} has no {name}", hint=did_you_mean(name, public)) from error


def instantiate(node: Mapping[str, Any], where: str) -> Any:
    """Call the class that a node names.

    A nested mapping with a ``class_path`` becomes an object too. The signature is not expanded through ``**kwargs``,
    so classes that forward them are called as they are.

    Parameters
    ----------
    node : mapping
        ``class_path`` and, optionally, ``init_args``.
    where : str
        Path of the node in the recipe, for messages.

    Raises
    ------
    TaskError
        For an unknown class, an unknown or missing argument, or a value of the wrong simple type.
    """
    kind = import_object(node["class_path"])
    if not callable(kind):
        raise TaskError(f"{where}.class_path names {node['class_path']}, which cannot be called")
    arguments = {name: build_value(value, f"{where}.init_args.{name}") for name, value in init_args(node).items()}
    return kind(**check_arguments(kind, arguments, where, node["class_path"]))


def init_args(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's arguments; an absent or empty ``init_args`` is no argument."""
    return dict(node.get("init_args") or {})


def build_value(value: Any, where: str) -> Any:
    """Return a value of a recipe with every nested ``class_path`` turned into an object."""
    if isinstance(value, Mapping):
        if "class_path" in value and set(value) <= {"class_path", "init_args"}:
            return instantiate(value, where)
        return {key: build_value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [build_value(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return value


def signature_of(kind: Any) -> inspect.Signature | None:
    """Return how a class or function is called, or None where that cannot be known."""
    try:
        return inspect.signature(kind)
    except (TypeError, ValueError):
        return None


def accepts(kind: Any, name: str) -> bool:
    """Whether a class or function has a parameter of this very name."""
    signature = signature_of(kind)
    return signature is not None and name in signature.parameters


def check_arguments(kind: Any, arguments: dict[str, Any], where: str, label: str) -> dict[str, Any]:
    """Return the arguments, with numbers written as text made numbers, or raise `TaskError` naming the culprit."""
    signature = signature_of(kind)
    if signature is None:
        return arguments
    parameters = signature.parameters
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in arguments:
        if name not in named and not takes_any:
            raise TaskError(f"{where}.init_args.{name}: {label} takes no {name}", hint=did_you_mean(name, named))
    missing = [name for name, one in named.items() if one.default is one.empty and name not in arguments]
    if missing:
        raise TaskError(
            f"{where}: {label} needs {', '.join(missing)}", hint=f"set {where}.init_args.{missing[0]} in the recipe"
        )
    hints = _annotations(kind)
    return {name: _coerced(value, hints.get(name), f"{where}.init_args.{name}") for name, value in arguments.items()}


def _annotations(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind.__init__ if inspect.isclass(kind) else kind)
    except (NameError, TypeError, AttributeError):
        # A name that exists for type checkers only; the class's own code will judge the value.
        return {}


def _coerced(value: Any, hint: Any, where: str) -> Any:
    if hint not in _SIMPLE or isinstance(value, hint):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and hint in (int, float):
        try:
            return hint(value)
        except ValueError:
            pass
    if isinstance(value, (str, bool, int, float)):
        raise TaskError(f"{where} must be {hint.__name__}, not {value!r}")
    return value
