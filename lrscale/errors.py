"""The errors that lrscale raises on misuse.

::

    LrscaleError                 exit code 2: the message names the value and the rule, the hint the remedy
    |- RecipeError               a recipe that cannot be read or does not validate
    |- TaskError                 a module, data or trainer that cannot be built as named
    |- LayoutError               a global batch that the devices cannot form
    |- StudyError                a study folder that cannot be used as it is
    |- BudgetError               exit code 1: the budget is below one trial
    |- TrialsFailedError         exit code 3: too few trials succeeded to answer
    `- InterruptedStudyError     exit code 130: stopped by the user, resumable

What training data do to a trial (divergence, too few points, an optimum at the edge) is a status, never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LrscaleError(Exception):
    """Misuse, with what to do about it.

    Parameters
    ----------
    message : str
        Names the value and the rule that it breaks.
    hint : str or None, optional
        The remedy, as a sentence. Defaults to None.

    Examples
    --------
    >>> error = LrscaleError("global batch 96 is not a multiple of 64", hint="use 128")
    >>> print(error)
    global batch 96 is not a multiple of 64; use 128
    """

    exit_code: int = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


class RecipeError(LrscaleError):
    """A recipe that cannot be read or does not validate."""


class TaskError(LrscaleError):
    """A module, data module or trainer that cannot be built as the recipe names it."""


class LayoutError(LrscaleError):
    """A global batch size that the devices cannot form."""


class StudyError(LrscaleError):
    """A study folder that cannot be used as it is."""


class BudgetError(LrscaleError):
    """A budget below what one trial takes."""

    exit_code = 1


class TrialsFailedError(LrscaleError):
    """Too few trials succeeded to answer the question."""

    exit_code = 3


class InterruptedStudyError(LrscaleError):
    """Stopped by the user; the same command goes on."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None when none is close.

    Parameters
    ----------
    name : str
        What was written.
    known : iterable of str
        What could have been meant.

    Returns
    -------
    str or None
        The closest name with a similarity ratio of at least 0.6 (difflib's Ratcliff-Obershelp ratio).

    Examples
    --------
    >>> nearest("batchsize", ["batch_sizes", "seeds"])
    'batch_sizes'
    >>> nearest("zzz", ["seeds"]) is None
    True
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remedy for a misspelt name: the nearest known name, or all of them.

    Examples
    --------
    >>> did_you_mean("cosin", ["cosine", "wsd"])
    'did you mean cosine?'
    >>> did_you_mean("zzz", ["cosine", "wsd"])
    'known: cosine, wsd'
    """
    names = sorted(known)
    close = nearest(name, names)
    return f"did you mean {close}?" if close else f"known: {', '.join(names)}"
