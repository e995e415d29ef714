"""A public name stands in one place, resolves, and is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import lrscale

PACKAGE = Path(__file__).resolve().parent.parent / "lrscale"


def _packages() -> list[str]:
    """The dotted name of lrscale and of every package in it."""
    folders = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    return [".".join(folder.relative_to(PACKAGE.parent).parts) for folder in folders]


def _reexports(package: str) -> dict[str, str]:
    """Name -> home module of every ``from home import Name as Name`` in the package's own file."""
    path = PACKAGE.parent.joinpath(*package.split("."), "__init__.py")
    return {
        alias.asname: f"{node.module}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


@pytest.mark.parametrize("package", _packages())
def test_public_names_resolve_and_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert (module.__doc__ or "").strip(), f"{package} has no docstring"
    for name in _reexports(package):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", _packages())
def test_lazy_names_are_the_names_that_type_checkers_see(package: str) -> None:
    module = importlib.import_module(package)
    homes = getattr(module, "_LAZY", None)
    if homes is None:
        return
    assert homes == _reexports(package)
    assert set(homes) <= set(dir(module))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Recomendation'"):
        lrscale.Recomendation  # noqa: B018 -- the access is what is tested


def test_a_thing_is_exported_by_one_package_only() -> None:
    places: dict[tuple[str, str], list[str]] = {}
    for package in _packages():
        # The package itself passes on what its parts export; a part does not pass on what another part exports.
        if package != "lrscale":
            for name, home in _reexports(package).items():
                places.setdefault((home, name), []).append(package)
    twice = {f"{home}.{name}": packages for (home, name), packages in places.items() if len(packages) > 1}
    assert not twice
    strangers = [
        f"{package} exports {home}.{name}"
        for (home, name), packages in places.items()
        for package in packages
        if home.split(".")[:2] != package.split(".")[:2]
    ]
    assert not strangers
