"""A study as its readers see it: finished trials, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from lrscale.store.record import TrialRecord
from lrscale.store.spec import TrialSpec
from lrscale.store.study_folder import StudyFolder
from lrscale.store.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A spec with its record."""

    spec: TrialSpec
    record: TrialRecord

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self.record.trial_id


@final
@dataclass(frozen=True, slots=True)
class StudyView:
    """The finished trials of a study, and a way to their trajectories; nothing here writes.

    Parameters
    ----------
    trials : mapping of str to Trial
        By trial id.
    load_trajectory : callable
        From a trial id to its trajectory.
    """

    trials: Mapping[str, Trial]
    load_trajectory: Callable[[str], Trajectory]

    @classmethod
    def of(cls, folder: StudyFolder) -> StudyView:
        """Read the finished trials of a study folder."""
        trials = {trial_id: Trial(folder.spec(trial_id), record) for trial_id, record in folder.records().items()}
        return cls(trials, folder.trajectory)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials.values())

    def get(self, spec: TrialSpec) -> Trial | None:
        """Return the finished trial of a spec, or None."""
        return self.trials.get(spec.trial_id)

    def frame(self) -> pd.DataFrame:
        """Return one row per trial: what was set, the status and the losses."""
        import pandas as pd

        rows = [
            {
                "trial_id": trial.trial_id,
                "status": trial.record.status,
                "lr": trial.spec.peak_lr,
                "batch_size": trial.spec.global_batch_size,
                "schedule": trial.spec.label,
                "seed": trial.spec.seed,
                "steps": trial.record.steps,
                "examples": trial.record.examples,
                "loss": trial.record.final_loss,
                "best_loss": trial.record.best_loss,
                "seconds": trial.record.timing.get("total"),
                "reason": trial.record.reason,
            }
            for trial in self
        ]
        return pd.DataFrame(rows)
