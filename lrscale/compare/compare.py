"""Two studies side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.compare.contrast import Contrast, Standing, contrast_dict
from lrscale.compare.setup import Setup, read_setup
from lrscale.compare.side import Side
from lrscale.compare.subjects import SUBJECTS
from lrscale.errors import LrscaleError

COMPARISON_VERSION = 1
"""Schema version of what `StudyComparison.to_dict` gives."""
CONFIDENCE = 0.95
"""Of every interval here, each on its own."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyComparison:
    """What differs between two studies, what does not, and what cannot be told."""

    a: Side
    b: Side
    setup: Setup
    contrasts: tuple[Contrast, ...]
    absent: tuple[str, ...]
    """Subjects that the studies do not have in common, as sentences."""

    def having(self, standing: Standing) -> tuple[Contrast, ...]:
        """Return the contrasts of one standing."""
        return tuple(one for one in self.contrasts if one.standing == standing)

    def of(self, subject: str) -> tuple[Contrast, ...]:
        """Return the contrasts of one subject."""
        return tuple(one for one in self.contrasts if one.subject == subject)

    @property
    def chance(self) -> float:
        """Differences that would be named although nothing differed, on average: each interval misses on its own."""
        tested = [one for one in self.contrasts if one.effect.value is not None]
        return len(tested) * (1 - CONFIDENCE)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "schema_version": COMPARISON_VERSION,
            "a": self.a.label,
            "b": self.b.label,
            "caveats": list(self.setup.caveats),
            "different": [dataclasses.asdict(one) for one in (*self.setup.different, *self.setup.measured)],
            "contrasts": [contrast_dict(one) for one in self.contrasts],
            "absent": list(self.absent),
        }


def compare_studies(a: Side, b: Side, *, tolerance: float | None = None) -> StudyComparison:
    """Compare two studies by the laws that both fitted.

    Parameters
    ----------
    a, b : Side
        Every ratio is b over a, every difference b minus a.
    tolerance : float or None, optional
        Relative loss that does not matter, in (0, 1). Default: the larger one of the recipes' targets, else 0.001.

    Returns
    -------
    StudyComparison

    Raises
    ------
    LrscaleError
        For a tolerance outside (0, 1).
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise LrscaleError(f"a margin of {tolerance:g} is not between 0 and 1", hint="0.01 is 1 % of the loss")
    setup = read_setup(a, b, tolerance)
    contrasts: list[Contrast] = []
    absent = []
    for subject in SUBJECTS.values():
        found = subject.contrasts(a, b, setup)
        contrasts += found
        if not found:
            absent.append(subject.missing(a, b))
    return StudyComparison(a=a, b=b, setup=setup, contrasts=tuple(contrasts), absent=tuple(absent))


def labels_of(names: Sequence[str], folders: Sequence[str]) -> tuple[str, str]:
    """Return what to call the two: names where they differ, else folders, else A and B.

    Examples
    --------
    >>> labels_of(["digits", "digits"], ["adamw-study", "sgd-study"]), labels_of(["a", "a"], ["s", "s"])
    (('adamw-study', 'sgd-study'), ('A', 'B'))
    """
    for pair in (names, folders):
        if pair[0] != pair[1]:
            return pair[0], pair[1]
    return "A", "B"
