"""Searches that run themselves: who asks for trials also follows them, and decides while they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from lrscale.launch import AbstractLauncher
from lrscale.launch.progress import AbstractProgress
from lrscale.store import StudyFolder, TrialRecord, TrialSpec

DRIVEN = "searches"
"""Under this name the facts of a study keep what each search that has ended came to."""


class AbstractDriver(ABC):
    """Runs all trials of a search by its own means, in place of rounds of trials that are planned beforehand."""

    key: str
    """What the search is kept under in the plan once it has ended, so that it is not driven again."""
    most: int
    """Trials that it runs at most."""

    @abstractmethod
    def specs(self) -> list[TrialSpec]:
        """Return specs as those of its trials usually are, as many as it may run; for the budget."""

    @abstractmethod
    def run(
        self,
        launcher: AbstractLauncher,
        folder: StudyFolder,
        progress: AbstractProgress,
        take: Callable[[TrialSpec, TrialRecord], None],
        most: int,
    ) -> dict[str, Any]:
        """Run it to its end, and return what the study keeps of it, as JSON values.

        ``trials`` are the ids of its trials in the order in which they were asked for.

        Parameters
        ----------
        launcher : AbstractLauncher
            The study's.
        folder : StudyFolder
            Its lock is held.
        progress : AbstractProgress
            Told what happens.
        take : callable
            Told of each trial that has ended, to keep its record.
        most : int
            Trials that the budget leaves.

        Raises
        ------
        StudyError
            When the launcher cannot do it.
        """
