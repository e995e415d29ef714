"""Which states trials keep for others that branch off from them, and when they go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import final

from lrscale.store import StudyFolder, Trial, TrialSpec
from lrscale.store.states import drop_states, has_state


def reaches(trial: Trial | None, position: int) -> bool:
    """Whether a finished trial has trained up to a position, so that a branch can begin there."""
    if trial is None:
        return False
    before = 0 if trial.spec.branch is None else trial.spec.branch.position
    return before + trial.record.steps >= position


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
        self._without_state: set[str] = set()
        """Trials that are to run and whose branch point has no state, as of the last look at what can run."""

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
        self._without_state = set()
        for spec in missing:
            first = self._first_to_run(spec, absent, wanted, trials)
            if first is not None:
                found[first.trial_id] = first
        return list(found.values())

    def _first_to_run(
        self, spec: TrialSpec, absent: AbstractSet[str], wanted: Mapping[str, TrialSpec], trials: Mapping[str, Trial]
    ) -> TrialSpec | None:
        """Return the trial itself, or the one whose state it or a trial before it begins with; None where it waits."""
        while spec.branch is not None and not has_state(self._folder.path / "trials", spec.branch):
            trunk = spec.branch.trial_id
            if trunk in absent or trunk not in wanted or trunk in self._again:
                return None
            if not reaches(trials.get(trunk), spec.branch.position):
                return None
            self._without_state.add(spec.trial_id)
            spec = wanted[trunk]
        return spec

    def is_again(self, spec: TrialSpec, trials: Mapping[str, Trial]) -> bool:
        """Note that a trial is to run, and return whether it is there already and runs for its states alone."""
        trial = trials.get(spec.trial_id)
        if trial is None or trial.record.retryable:
            return False
        self._again.add(spec.trial_id)
        return True

    def positions(self, spec: TrialSpec, wanted: Iterable[TrialSpec], trials: Mapping[str, Trial]) -> tuple[int, ...]:
        """Return where a trial keeps its state: where a branch that is wanted and not there begins."""
        missing = (one.branch for one in wanted if not self._is_there(one, trials))
        return tuple(sorted({point.position for point in missing if point and point.trial_id == spec.trial_id}))

    def drop(
        self,
        wanted: Mapping[str, TrialSpec],
        trials: Mapping[str, Trial],
        stays: Callable[[TrialSpec], bool] = lambda _: False,
    ) -> None:
        """Remove the states from which no wanted branch is missing, but those of trials of which `stays` is true."""
        for trunk in {spec.branch.trial_id for spec in wanted.values() if spec.branch is not None}:
            if trunk in wanted and not stays(wanted[trunk]):
                drop_states(self._folder.path / "trials", trunk, self.positions(wanted[trunk], wanted.values(), trials))

    def _is_there(self, spec: TrialSpec, trials: Mapping[str, Trial]) -> bool:
        # One that is there, and trained again for its own state, needs the state that it begins with.
        trial = trials.get(spec.trial_id)
        return trial is not None and not trial.record.retryable and spec.trial_id not in self._without_state
