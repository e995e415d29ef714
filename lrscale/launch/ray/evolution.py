"""A population that Ray Tune evolves on the launcher's cluster, and the schedule of its best member."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.ray.evolving_trial import SEGMENT, EvolvingTrial, Member
from lrscale.launch.ray.launcher import RayLauncher
from lrscale.launch.ray.tuned_search import AbstractDesk, make_callback, make_stopper, on_duty, own_settings
from lrscale.launch.ray.tuned_trial import Take, keep_all_ended, keep_ended, keep_lost, release
from lrscale.ray_tune import LOSS, TIME
from lrscale.ray_tune.tuner import Search
from lrscale.store import StudyFolder, TrialRecord, TrialSpec


@final
class Evolution:
    """One population, from its first segment or from where it was killed to its end.

    Parameters
    ----------
    search : Search
        Scheduler and space.
    trial : EvolvingTrial
        A member.
    state : Path
        Folder where Tune keeps its state; it goes when the evolution has ended.
    """

    def __init__(self, search: Search, trial: EvolvingTrial, state: Path) -> None:
        self._search = search
        self._trial = trial
        self._state = state

    def run(self, launcher: RayLauncher, progress: AbstractProgress, take: Take) -> tuple[list[str], Member | None]:
        """Run it, and return the ids of its trials and its best member; None where none came to the end.

        Raises
        ------
        TaskError, StudyError
            When no segment could be trained.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        launcher.check_nodes(self._state, progress)
        shutil.rmtree(self._trial.plan.claims, ignore_errors=True)
        desk = _Segments(self._trial, progress, take)
        desk.settle_all()
        with on_duty(desk), own_settings():
            trial: Any = self._trial
            try:
                results = self._search.run(trial, self._state, callbacks=[make_callback()], stop=make_stopper())
            except Exception as error:  # Tune raises what it likes; what our own desk has met comes first
                raise desk.trouble or StudyError(
                    f"Ray Tune could not go on: {type(error).__name__}: {' '.join(str(error).split())[-300:]}",
                    hint="run the same command again; lrscale doctor --search tries its parts",
                ) from error
        desk.settle_all()
        if desk.trouble is not None:
            raise desk.trouble
        members = [member for result in results if (member := self._member(result)) is not None]
        shutil.rmtree(self._state, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._state.parent.rmdir()
        # The states served the segments after them, those of a run that was killed as well.
        for state in self._trial.plan.study.glob("trials/*/state.ckpt"):
            state.unlink()
        for member in members:
            desk.order.update(dict.fromkeys(segment.trial_id for segment in member.course))
        best = min(members, key=lambda one: one.course[-1].loss or 0.0) if members else None
        return list(desk.order), best

    def _member(self, result: Any) -> Member | None:
        if result.checkpoint is None or (result.metrics or {}).get(TIME) != self._trial.segments:
            return None
        with result.checkpoint.as_directory() as folder:
            member = Member.load(Path(folder))
        return member if member.course[-1].loss is not None else None


@final
class _Segments(AbstractDesk):
    """Hears of segments in the driver, and keeps their records."""

    def __init__(self, trial: EvolvingTrial, progress: AbstractProgress, take: Take) -> None:
        self._trial = trial
        self._progress = progress
        self._take = take
        self._store = StudyFolder(trial.plan.study)
        self.order: dict[str, None] = {}

    @override
    def begun(self, config: Mapping[str, Any]) -> None:
        """Hear that a member goes on; its segments are told when they end."""

    @override
    def heard(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Hear of the end of a segment."""
        if SEGMENT in result:
            self._keep(str(result[SEGMENT]))

    @override
    def settle(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Hear of the end of a member."""
        self.heard(config, result)
        if LOSS not in result:
            self.settle_all()

    @override
    def lose(self, name: str) -> None:
        """Hear that a member was lost."""
        self.settle_all()
        try:
            keep_lost(self._store, self._trial.plan.claims, name, self._trial.plan.layouts, self._take_one)
        except LrscaleError as error:
            self.trouble = self.trouble or error

    def settle_all(self) -> None:
        """Keep what was left in any folder: a member that was lost has told nothing of its last segment."""
        try:
            keep_all_ended(self._store, self._take_one)
        except LrscaleError as error:
            self.trouble = error

    def _keep(self, trial_id: str) -> None:
        if self.trouble is not None:
            return
        self.order[trial_id] = None
        try:
            if keep_ended(self._store, trial_id, self._take_one):
                release(self._store, self._trial.plan.claims, trial_id)
        except LrscaleError as error:
            self.trouble = error

    def _take_one(self, spec: TrialSpec, record: TrialRecord) -> None:
        self.order[spec.trial_id] = None
        self._progress.trial_started(spec, self._trial.plan.layouts[spec.global_batch_size])
        self._take(spec, record)
