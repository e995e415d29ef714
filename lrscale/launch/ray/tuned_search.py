"""A search that Ray Tune drives on the launcher's cluster: its trials become ordinary ones of the study."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.ray.launcher import RayLauncher
from lrscale.launch.ray.tuned_trial import (
    Take,
    TrialPlan,
    TunedTrial,
    keep_all_ended,
    keep_ended,
    keep_lost,
    losses_so_far,
    release,
)
from lrscale.ray_tune import LOSS, TIME
from lrscale.ray_tune.tuner import Search
from lrscale.store import STOPPER, StudyFolder, TrialRecord, TrialSpec
from lrscale.store.files import write_atomically
from lrscale.store.trajectory import LINES_NAME


@final
class TunedSearch:
    """One search, from its first trial or from where it was killed to its end.

    Parameters
    ----------
    search : Search
        Scheduler, algorithm and space.
    plan : TrialPlan
        The trials.
    rule : str
        What ends trials early, in the records of those.
    state : Path
        Folder where Tune keeps its state; it goes when the search has ended.
    """

    def __init__(self, search: Search, plan: TrialPlan, rule: str, state: Path) -> None:
        self._search = search
        self._plan = plan
        self._rule = rule
        self._state = state

    def run(self, launcher: RayLauncher, progress: AbstractProgress, take: Take) -> list[str]:
        """Run it, and return the ids of its trials in the order in which they were asked for.

        Raises
        ------
        TaskError, StudyError
            When no trial could be trained.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        launcher.check_nodes(self._state, progress)
        # Left by a run that was killed: nothing waits for anything yet.
        shutil.rmtree(self._plan.claims, ignore_errors=True)
        keep_all_ended(StudyFolder(self._plan.study), take)
        desk = Desk(self._plan, self._search, self._rule, progress, take)
        with on_duty(desk), own_settings():
            trial: Any = TunedTrial(self._plan)
            try:
                results = self._search.run(trial, self._state, callbacks=[make_callback()], stop=make_stopper())
            except Exception as error:  # Tune raises what it likes; what our own desk has met comes first
                if desk.trouble is not None:
                    raise desk.trouble from error
                raise StudyError(
                    f"Ray Tune could not go on: {type(error).__name__}: {' '.join(str(error).split())[-300:]}",
                    hint="run the same command again; lrscale doctor --search tries its parts",
                ) from error
            if desk.trouble is not None:
                raise desk.trouble
            for result in results:
                if result.error is None:
                    desk.settle(result.config or {}, result.metrics or {})
        shutil.rmtree(self._state, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._state.parent.rmdir()
        return list(dict.fromkeys(self._plan.spec(result.config).trial_id for result in results if result.config))


class AbstractDesk(ABC):
    """Hears of Tune's trials in the driver, and keeps their records."""

    trouble: LrscaleError | None = None
    """What ends the study."""

    @abstractmethod
    def begun(self, config: Mapping[str, Any]) -> None:
        """Hear that a trial has begun, or goes on."""

    @abstractmethod
    def heard(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Hear of a result."""

    @abstractmethod
    def settle(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Hear that Tune is done with a trial."""

    @abstractmethod
    def lose(self, name: str) -> None:
        """Hear that Tune has given a trial up, by its name: its process was lost, or raised an error, twice."""


@final
class Desk(AbstractDesk):
    """The desk of a search, whose trials are trials of the study."""

    def __init__(self, plan: TrialPlan, search: Search, rule: str, progress: AbstractProgress, take: Take) -> None:
        self._plan = plan
        self._length = search.length
        self._title = search.scheduler.title
        self._rule = rule
        self._progress = progress
        self._take = take
        self._store = StudyFolder(plan.study)
        self._begun: set[str] = set()

    @override
    def begun(self, config: Mapping[str, Any]) -> None:
        spec = self._plan.spec(config)
        if spec.trial_id not in self._begun and self._store.record(spec.trial_id) is None:
            self._progress.trial_started(spec, self._plan.layouts[spec.global_batch_size])
        self._begun.add(spec.trial_id)

    @override
    def heard(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        spec = self._plan.spec(config)
        if "step" in result:
            self._progress.trial_progress(spec.trial_id, int(result["step"]), spec.horizon, result.get(LOSS))

    @override
    def settle(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        if self.trouble is not None:
            return
        spec = self._plan.spec(config)
        earlier = self._store.record(spec.trial_id)
        if earlier is not None and not earlier.retryable:
            return
        folder = self._store.trial_path(spec.trial_id)
        try:
            if keep_ended(self._store, spec.trial_id, self._take):
                release(self._store, self._plan.claims, spec.trial_id)
                return
            record = self._stopped(spec, folder, result)
            if record is not None:
                self._take(spec, record)
        except LrscaleError as error:
            self.trouble = error

    @override
    def lose(self, name: str) -> None:
        try:
            keep_lost(self._store, self._plan.claims, name, self._plan.layouts, self._take)
        except LrscaleError as error:
            self.trouble = self.trouble or error

    def _stopped(self, spec: TrialSpec, folder: Path, result: Mapping[str, Any]) -> TrialRecord | None:
        """Return the record of a trial that the scheduler has ended where Tune last heard of it."""
        if "step" not in result:
            return None
        step, loss = int(result["step"]), float(result[LOSS])
        cut_after(folder, step)
        seen = losses_so_far(folder)
        share = step / spec.horizon
        size = spec.global_batch_size
        return TrialRecord(
            trial_id=spec.trial_id,
            status="stopped",
            reason=f"stopped at {100 * share:.0f} % of the horizon by {self._title}: loss {loss:.5g} at step {step}, "
            f"validation {int(result[TIME])} of {self._length}",
            best_loss=min(seen.values(), default=loss),
            monitor=spec.task.get("monitor"),
            steps=step,
            examples=step * size,
            layout=self._plan.layouts[size],
            timing={"total": float(result.get("time_total_s", 0.0))},
            measurements={STOPPER: {"name": self._rule, "step": step, "share": share, "loss": loss}},
        )


def cut_after(folder: Path, step: int) -> None:
    """Leave out what a trial has trained after the step at which it was ended, until its processes heard of it."""
    path = folder / LINES_NAME
    if not path.exists():
        return
    whole = path.read_bytes().rpartition(b"\n")[0]
    kept = [line for line in whole.split(b"\n") if line and json.loads(line)["step"] <= step]
    write_atomically(path, (b"\n".join(kept) + b"\n").decode())


_DESKS: list[AbstractDesk] = []
"""The desk on duty. Tune pickles its callbacks with its state, and a desk cannot be."""


def desk_on_duty() -> AbstractDesk:
    """Return the desk of the search that runs in this process."""
    return _DESKS[-1]


@contextlib.contextmanager
def on_duty(desk: AbstractDesk) -> Iterator[None]:
    """Let Tune's callbacks in this process tell a desk."""
    _DESKS.append(desk)
    try:
        yield
    finally:
        _DESKS.remove(desk)


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Put the environment back as it was."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def make_stopper() -> Any:
    """Return what ends Tune's run when the desk on duty has met what ends the study.

    Tune takes an error that a callback raises for one of the trial.
    """
    from ray.tune import Stopper

    class Trouble(Stopper):  # type: ignore[misc]  # Ray is not typed
        """Asked after every result."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return desk_on_duty().trouble is not None

    return Trouble()


def make_callback() -> Any:
    """Return a callback of Tune that tells the desk on duty."""
    from ray.tune import Callback

    class Told(Callback):  # type: ignore[misc]  # Ray is not typed
        """Passes on what Tune says."""

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            desk_on_duty().begun(trial.config)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            desk_on_duty().heard(trial.config, result)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            desk_on_duty().settle(trial.config, trial.last_result or {})

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            desk_on_duty().lose(trial.trial_id)

    return Told()
