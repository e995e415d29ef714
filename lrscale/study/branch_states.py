"""Which states trials keep for others that branch off from them, and when they go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

from lrscale.store import StudyFolder, Trial, TrialSpec
from lrscale.store.states import drop_states, has_state


def reaches(trial: Trial | None, position: int) -> bool:
    """Whether a finished trial has trained up to a position, so that a branch can begin there."""
    return trial is not None and trial.record.steps >= position


@final
class BranchStates:
    """The states of one run of an experiment.

    They serve the branches and are no part of the answer, so that they go when those are there. A branch that is asked
    for later has its trial trained again, once.

    Parameters
    ----------
    folder : StudyFolder
        Its lock is held.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._again: set[str] = set()

    def runnable(
        self, missing: Sequence[TrialSpec], wanted: Mapping[str, TrialSpec], trials: Mapping[str, Trial]
    ) -> list[TrialSpec]:
        """Return what of the missing trials can start now: not the branches of those that are missing themselves.

        A trial that is there and has kept no state for a branch is among them once more; see `is_again`.

        Parameters
        ----------
        missing : sequence of TrialSpec
            In the order in which they should run.
        wanted : mapping
            All trials of the experiment, by id.
        trials : mapping
            The finished ones, by id.
        """
        absent = {spec.trial_id for spec in missing}
        found: dict[str, TrialSpec] = {}
        for spec in missing:
            if spec.branch is None or has_state(self._folder.path / "trials", spec.branch):
                found[spec.trial_id] = spec
                continue
            trunk = spec.branch.trial_id
            if trunk in absent or trunk in found or trunk not in wanted or trunk in self._again:
                continue
            if reaches(trials.get(trunk), spec.branch.position):
                found[trunk] = wanted[trunk]
        return list(found.values())

    def is_again(self, spec: TrialSpec, trials: Mapping[str, Trial]) -> bool:
        """Note that a trial is to run, and return whether it is there already and runs for its states alone."""
        trial = trials.get(spec.trial_id)
        if trial is None or trial.record.retryable:
            return False
        self._again.add(spec.trial_id)
        return True

    def positions(self, spec: TrialSpec, wanted: Iterable[TrialSpec], trials: Mapping[str, Trial]) -> tuple[int, ...]:
        """Return where a trial keeps its state: where a branch that is wanted and not there begins."""
        branches = (one for one in wanted if one.branch is not None and one.branch.trial_id == spec.trial_id)
        return tuple(sorted({one.branch.position for one in branches if one.branch and not _is_there(one, trials)}))

    def drop(self, wanted: Mapping[str, TrialSpec], trials: Mapping[str, Trial]) -> None:
        """Remove the states from which no wanted branch is missing."""
        for trunk in {spec.branch.trial_id for spec in wanted.values() if spec.branch is not None}:
            if trunk in wanted:
                drop_states(self._folder.path / "trials", trunk, self.positions(wanted[trunk], wanted.values(), trials))


def _is_there(spec: TrialSpec, trials: Mapping[str, Trial]) -> bool:
    trial = trials.get(spec.trial_id)
    return trial is not None and not trial.record.retryable
