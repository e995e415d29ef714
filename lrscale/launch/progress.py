"""What a running study tells whoever watches."""

from __future__ import annotations

from typing import final

from lrscale.store import Trial, TrialSpec
from lrscale.units import Layout


class AbstractProgress:
    """Receives the events of a study; every method may be left as it is.

    Calls come from the process that runs the study, one at a time, in the order in which things happen.
    """

    def started(self, experiment: str, planned: int, reused: int) -> None:
        """Begin an experiment or a further round of it: trials still to run, and trials that were already there."""

    def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
        """Begin a trial."""

    def trial_progress(self, trial_id: str, step: int, horizon: int, loss: float | None) -> None:
        """Tell how far a trial is, a few times a second at most; `loss` is the latest training loss."""

    def trial_finished(self, trial: Trial) -> None:
        """End a trial, whatever its status."""

    def note(self, text: str) -> None:
        """Say a sentence that the user should read."""

    def finished(self) -> None:
        """End the study."""


@final
class SilentProgress(AbstractProgress):
    """Says nothing."""
