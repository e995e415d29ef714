"""What a row of a table is: said by the user, or seen from the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.sweep.cells import numbers_in
from lrscale.sweep.columns import ROLES, TableKind, role_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST_POINTS = 5
"""Different steps of a run, on average, from which its rows are points of its curve."""


def table_kind(
    frame: pd.DataFrame, given: Mapping[str, str], asked: str | None = None, by: Sequence[str] = ()
) -> tuple[TableKind, str | None]:
    """Return what a row is, and a sentence where that was guessed.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    given : mapping of str to str
        Role to column, as named by flags.
    asked : {"runs", "steps", "curves"} or None, optional
        What the user says. Default None: a column of steps to a target makes it ``"steps"``; a column called step, with
        at least five different values a run, makes it ``"curves"``; anything else is ``"runs"``.
    by : sequence of str, optional
        Columns that separate groups. Default: none.

    Raises
    ------
    LrscaleError
        For an unknown kind.

    Examples
    --------
    >>> import pandas as pd
    >>> table_kind(pd.DataFrame({"bs": ["8"], "steps_to_goal": ["900"]}), {})
    ('steps', 'kind: steps (column steps_to_goal holds the steps to a target)')
    >>> table_kind(pd.DataFrame({"lr": ["0.1"], "bs": ["8"], "loss": ["2"]}), {})
    ('runs', None)
    """
    if asked is not None:
        for kind in ROLES:
            if kind == asked:
                return kind, None
        raise LrscaleError(f"unknown kind {asked}", hint=did_you_mean(asked, ROLES))
    columns = [str(name) for name in frame.columns]
    steps = given.get("steps_to_target") or _first(columns, "steps_to_target")
    if steps is not None:
        return "steps", f"kind: steps (column {steps} holds the steps to a target)"
    if "run" in given or "step" in given:
        return "curves", None
    step = next((name for name in columns if role_of(name, ("step",)) == ("step", 0)), None)
    run = _first([name for name in columns if name != step], "run")
    if (
        step is not None
        and run is not None
        and _holds_curves(frame, step, [run, *(name for name in by if name in columns and name != run)])
    ):
        return "curves", f"kind: curves (column {step} rises along each value of {run})"
    return "runs", None


def _first(columns: list[str], role: str) -> str | None:
    found = [(suggested[1], name) for name in columns if (suggested := role_of(name, (role,))) is not None]
    return min(found, key=lambda one: one[0])[1] if found else None


def _holds_curves(frame: pd.DataFrame, step: str, runs: list[str]) -> bool:
    at = numbers_in(frame[step])
    if not np.isfinite(at).all():
        return False
    points = [np.unique(at[rows]).size for rows in frame.groupby(runs).indices.values()]
    return float(np.mean(points)) >= FEWEST_POINTS and 2 * sum(points) > len(frame)
