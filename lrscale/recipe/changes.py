"""What differs between two recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from lrscale.recipe.problems import EntryPath, spelled


@final
class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()
"""Stands for an entry that one of the recipes does not have."""


@final
@dataclass(frozen=True, slots=True)
class Change:
    """One entry that differs.

    Examples
    --------
    >>> print(Change("experiments.scaling.seeds", 3, 5))
    experiments.scaling.seeds: 3 -> 5
    """

    path: str
    old: Any
    """The earlier value; `ABSENT` when the entry is new."""
    new: Any
    """The later value; `ABSENT` when the entry is gone."""

    def __str__(self) -> str:
        return f"{self.path}: {self.old} -> {self.new}"


def compare_recipes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return what changed from one recipe to another.

    Parameters
    ----------
    old, new : mapping
        What `Recipe.dump` returned.

    Returns
    -------
    list of Change
        In the order of the fields; a list that differs is one change.

    Examples
    --------
    >>> compare_recipes({"seed": 0, "task": {"monitor": "a"}}, {"seed": 0, "task": {"monitor": "b"}})
    [Change(path='task.monitor', old='a', new='b')]
    """
    return _compare((), old, new)


def _compare(path: EntryPath, old: Any, new: Any) -> list[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = dict.fromkeys([*old, *new])
        return [
            change for name in names for change in _compare((*path, name), old.get(name, ABSENT), new.get(name, ABSENT))
        ]
    same = type(old) is type(new) or not (isinstance(old, bool) or isinstance(new, bool))
    return [] if same and old == new else [Change(spelled(path), old, new)]
