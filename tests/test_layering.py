"""Imports run one way. The table is the architecture; a new edge is a decision, made here first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lrscale"

BASE = {"errors", "units", "registry"}
FORMULAS = BASE | {"schedules", "batch_schedules", "companions", "stoppers", "ray_tune", "laws"}
FACTS = FORMULAS | {"recipe", "store"}

# part of lrscale -> the other parts that it may import, at any level of a file
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "units": {"errors"},
    "registry": {"errors"},
    "schedules": BASE,
    "batch_schedules": BASE | {"schedules"},
    "companions": BASE,
    "stoppers": BASE,
    "ray_tune": BASE,
    "laws": BASE,
    "recipe": FORMULAS,
    "store": FORMULAS,
    "training": FACTS,
    # The launcher starts the worker by module name.
    "launch": FACTS,
    "study": FACTS | {"launch"},
    # Tables of runs made elsewhere; findings are the words that a study and a table share.
    "sweep": BASE | {"laws", "store", "study"},
    "recommend": FACTS | {"study"},
    # Two studies side by side.
    "compare": FACTS | {"study", "recommend"},
    # The recommendation stands on top of the report.
    "report": FACTS | {"study", "recommend", "sweep", "compare"},
    "callbacks": FORMULAS | {"recommend", "training"},
    # In the user's own process: the parts of a trial around a module that lives on.
    "tune": FORMULAS | {"training"},
    "zoo": BASE,
    "testing": FACTS | {"training", "launch", "study", "recommend", "report", "zoo"},
    "cli": FACTS | {"training", "launch", "study", "recommend", "report", "sweep", "compare", "zoo", "callbacks"},
    "__main__": {"cli"},
    # Resolves the public names on first use.
    "__init__": {"callbacks", "recipe", "recommend", "store", "study", "laws", "schedules", "units", "errors"},
}

# Within `launch`, from bottom to top: a part imports those before it.
LAUNCH = (
    *("signals", "progress", "devices", "base", "tail", "outcome", "job", "attempts"),
    *("processes", "node", "node_launcher", "local", "nodes", "at_once", "slurm", "ray", "__init__"),
)
LAUNCH_PROCESSES = ("reaper", "rank", "server", "base", "forkserver", "group", "__init__")

HEAVY = {"torch", "torchmetrics", "torchvision", "lightning", "lightning_fabric", "pytorch_lightning"}
MAY_IMPORT_HEAVY = {"training", "tune", "zoo", "callbacks"}

LONGEST_FILE = 450


def _files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_recipes" not in path.parts)


def _part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    name = first.removesuffix(".py")
    return "callbacks" if name.startswith("callbacks") else name


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import; ``from a import b`` yields ``a.b``."""
    folder = ("lrscale", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            home = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [home, node.module]))
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path: Path) -> None:
    part = _part(path)
    assert part in ALLOWED, f"{part} has no line in the table of this test"
    wrong = []
    for line, name in _imports(path):
        top, _, rest = name.partition(".")
        if top != "lrscale" or rest in ("", "__version__"):
            continue
        target = rest.split(".")[0]
        target = "callbacks" if target.startswith("callbacks") else target
        if target != part and target not in ALLOWED[part]:
            wrong.append(f"line {line}: {part} must not import {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("folder", "order"), [("launch", LAUNCH), ("launch.processes", LAUNCH_PROCESSES)])
def test_parts_of_the_launchers_import_only_what_stands_below_them(folder: str, order: tuple[str, ...]) -> None:
    home = PACKAGE.joinpath(*folder.split("."))
    wrong = []
    for path in sorted(home.rglob("*.py")):
        part = path.relative_to(home).parts[0].removesuffix(".py")
        below = order[: order.index(part)]
        for line, name in _imports(path):
            target = name.removeprefix(f"lrscale.{folder}.").split(".")[0]
            if name.startswith(f"lrscale.{folder}.") and target in order and target not in (part, *below):
                wrong.append(f"{path.relative_to(PACKAGE)} line {line}: {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_training_and_zoo_import_torch(path: Path) -> None:
    if _part(path) in MAY_IMPORT_HEAVY:
        return
    wrong = [f"line {line}: {name}" for line, name in _imports(path) if name.split(".")[0] in HEAVY]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_parts_use_only_the_public_names_of_each_other(path: Path) -> None:
    part = _part(path)
    wrong = []
    for line, name in _imports(path):
        parts = name.split(".")
        private = [piece for piece in parts[1:] if piece.startswith("_") and not piece.startswith("__")]
        if parts[0] == "lrscale" and len(parts) > 1 and parts[1] != part and private:
            wrong.append(f"line {line}: {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_too_long_to_read_at_once(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{lines} lines; split it by idea"


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        ready = {part for part, targets in ALLOWED.items() if part not in done and targets <= done}
        assert ready, f"these parts import each other: {sorted(ALLOWED.keys() - done)}"
        done |= ready
