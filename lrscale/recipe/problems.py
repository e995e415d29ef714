"""What is wrong in a recipe, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from lrscale.errors import RecipeError

EntryPath: TypeAlias = tuple[str | int, ...]
"""The way to an entry: keys of mappings and indices of lists."""


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    message: str
    line: int | None = None
    """Line of the recipe, counted from 1; None where it is not in the file."""
    path: EntryPath = ()
    hint: str | None = None
    """The remedy."""
    source: str | None = None
    """The override that set the entry, such as ``--set seed=-1``; None when the file did."""


def spelled(path: EntryPath) -> str:
    """Return a path as people write it.

    Examples
    --------
    >>> spelled(("experiments", "scaling", "batch_sizes", 1))
    'experiments.scaling.batch_sizes[1]'
    >>> spelled(())
    'the recipe'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the recipe"


def as_error(name: str, problems: Sequence[Problem]) -> RecipeError:
    """Return one error that names every problem, in the order of their lines.

    Parameters
    ----------
    name : str
        What the recipe is called in the message, usually its file name.
    problems : sequence of Problem
        At least one.

    Examples
    --------
    >>> print(as_error("recipe.yaml", [Problem("task.modle is not known", line=7, hint="did you mean model?")]))
    recipe.yaml line 7: task.modle is not known; did you mean model?
    """
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: (problem.source is not None, problem.line or 0))
    if len(ordered) == 1:
        only = ordered[0]
        where = only.source or (name if only.line is None else f"{name} line {only.line}")
        return RecipeError(f"{where}: {only.message}", hint=only.hint)
    lines = [f"{name} has {len(ordered)} errors:"]
    for problem in ordered:
        where = f"{problem.source}: " if problem.source else "" if problem.line is None else f"line {problem.line}: "
        lines.append(f"  {where}{problem.message}" + (f"; {problem.hint}" if problem.hint else ""))
    return RecipeError("\n".join(lines))
