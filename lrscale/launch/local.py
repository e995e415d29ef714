"""One machine and its devices: fresh processes for every trial, forked from a server that has torch loaded."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import LayoutError, StudyError, TaskError
from lrscale.launch.base import LAUNCHERS, AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.devices import DevicePool, resolve_accelerator
from lrscale.launch.forkserver import Forkserver
from lrscale.launch.job import clear_traces, group_environment, rank_threads, write_job
from lrscale.launch.outcome import make_record, misuse, read_outcomes
from lrscale.launch.progress import AbstractProgress, SilentProgress
from lrscale.launch.rank_group import RankGroup
from lrscale.launch.tail import last_row
from lrscale.store import TrialRecord
from lrscale.units import Layout

TICK = 0.1
"""Seconds between looks at time limits while nothing is heard."""
TELL = 1.0
"""Seconds between looks at how far a trial is."""
ATTEMPTS = 2
"""A trial whose processes were lost is run once more; what its own code does is not retried."""


@final
@dataclass(slots=True)
class _Running:
    request: TrialRequest
    group: RankGroup
    gpus: tuple[str, ...]
    attempt: int
    told_at: float


@final
@LAUNCHERS.register("local")
class LocalLauncher(AbstractLauncher):
    """Runs trials on this machine.

    Trials begin in the order given, `trials_at_once` of them side by side as far as there are devices. A trial with a
    pinned layout, which is there to be timed, runs alone.

    Parameters
    ----------
    settings : LaunchSettings
        The task's import paths, devices and limits.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        self._scratch: Path | None = None
        self._server: Forkserver | None = None
        self._accelerator: str | None = None
        self._groups = 0

    def __enter__(self) -> LocalLauncher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        if self._server is not None:
            self._server.stop()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._server = self._scratch = None

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Run trials side by side as far as the devices go; see `AbstractLauncher.run`."""
        waiting = deque((request, 1) for request in requests)
        if not waiting:
            return
        pool = self._device_pool(requests)
        running: list[_Running] = []
        lost: dict[str, TrialRecord] = {}
        try:
            while waiting or running:
                while waiting and self._has_room(waiting[0][0], running):
                    gpus = pool.take(waiting[0][0].layout.devices)
                    if gpus is None:
                        break
                    request, attempt = waiting.popleft()
                    if request.may_start is None or request.may_start():
                        running.append(self._start(request, gpus, attempt, progress))
                        continue
                    pool.give_back(gpus)
                    if attempt > 1:
                        yield lost[request.spec.trial_id]
                self._pump([trial.group for trial in running])
                for trial in [trial for trial in running if trial.group.ended]:
                    running.remove(trial)
                    pool.give_back(trial.gpus)
                    record = self._finish(trial)
                    if record.retryable and trial.attempt < ATTEMPTS:
                        progress.note(f"trial {record.trial_id}: {record.reason}; it is run once more")
                        lost[record.trial_id] = record
                        waiting.appendleft((trial.request, trial.attempt + 1))
                    else:
                        yield record
                for trial in running:
                    _tell(trial, progress)
        finally:
            self._end([trial.group for trial in running])

    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Build the task in one fresh process; see `AbstractLauncher.inspect`."""
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):
            record = self._inspect_once({**job, "purpose": "inspect"}, layout, folder)
            outcomes = read_outcomes(folder)
            error = misuse(outcomes)
            if error is not None:
                raise error
            if 0 in outcomes and outcomes[0]["kind"] == "result":
                return dict(outcomes[0]["fields"])
            if not record.retryable:
                raise TaskError(
                    f"the task cannot be built: {record.reason}", hint=f"its log is {folder.resolve() / 'rank-0.log'}"
                )
        raise StudyError(
            f"the process that builds the task to look at it was lost {ATTEMPTS} times: {record.reason}",
            hint=f"its log is {folder.resolve() / 'rank-0.log'}; the same command tries again",
        )

    def _inspect_once(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> TrialRecord:
        clear_traces(folder)
        group = self._start_group(job, layout, folder, "inspect", (), SilentProgress(), None)
        try:
            while not group.ended:
                self._pump([group])
        finally:
            self._end([group])
        outcomes = read_outcomes(folder)
        if 0 in outcomes and outcomes[0]["kind"] == "result":
            return TrialRecord(trial_id="inspect", status="completed")
        return make_record("inspect", folder, layout, group.codes, seconds=group.seconds, timed_out=False)

    def _device_pool(self, requests: Sequence[TrialRequest]) -> DevicePool:
        pool = DevicePool.of_this_machine(self._resolved_accelerator())
        for request in requests:
            layout = request.layout
            if layout.num_nodes > 1:
                raise LayoutError(
                    f"the local launcher has one node, not layout.num_nodes: {layout.num_nodes}",
                    hint="set layout.num_nodes: 1",
                )
            pool.check(layout.devices, 1 if request.spec.layout is not None else self._settings.trials_at_once)
        return pool

    def _has_room(self, request: TrialRequest, running: Sequence[_Running]) -> bool:
        if not running:
            return True
        alone = any(trial.spec.layout is not None for trial in (request, *(trial.request for trial in running)))
        return not alone and len(running) < self._settings.trials_at_once

    def _pump(self, groups: Sequence[RankGroup]) -> None:
        """Hear the server for a moment, and hold the groups to their limits."""
        if self._server is not None:
            for event in self._server.events(TICK):
                for group in groups:
                    group.take(event)
        for group in groups:
            if not group.ended:
                group.watch()

    def _end(self, groups: Sequence[RankGroup]) -> None:
        """Kill groups and wait until they are gone, so that nothing writes into their folders any more."""
        left = [group for group in groups if not group.ended]
        if not left or self._server is None or not self._server.running:
            return
        for group in left:
            group.kill()
        while any(not group.ended for group in left):
            self._pump(left)

    def _ready_server(self, progress: AbstractProgress) -> Forkserver:
        # Whether a server has died is for its events to tell: what it said before is still to be heard.
        if self._server is not None and self._server.running:
            return self._server
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="lrscale-"))
        if self._server is None:
            settings = self._settings
            paths = tuple(str((settings.root / path).resolve()) for path in settings.import_paths)
            self._server = Forkserver(self._scratch, settings.preload, paths)
        for note in self._server.start():
            progress.note(note)
        return self._server

    def _start(
        self, request: TrialRequest, gpus: tuple[str, ...], attempt: int, progress: AbstractProgress
    ) -> _Running:
        clear_traces(request.folder)
        job = {
            "spec": request.spec.to_dict(),
            "purpose": "train",
            "instruments": {name: dict(settings) for name, settings in request.instruments.items()},
        }
        group = self._start_group(
            job,
            request.layout,
            request.folder,
            request.spec.trial_id,
            gpus,
            progress,
            self._settings.timeout,
        )
        if attempt == 1:
            progress.trial_started(request.spec, request.layout)
        return _Running(request, group, gpus, attempt, told_at=group.started)

    def _start_group(
        self,
        job: Mapping[str, Any],
        layout: Layout,
        folder: Path,
        name: str,
        gpus: tuple[str, ...],
        progress: AbstractProgress,
        limit: float | None,
    ) -> RankGroup:
        server = self._ready_server(progress)
        assert self._scratch is not None
        settings = self._settings
        self._groups += 1
        key = f"{name}-{self._groups}"
        threads = rank_threads(layout.world_size, settings.trials_at_once)
        path = write_job(
            folder,
            job,
            settings=settings,
            layout=layout,
            accelerator=self._resolved_accelerator(),
            rendezvous=self._rendezvous(key),
            threads=threads,
        )
        group = RankGroup(server, key, folder, layout.world_size, limit)
        group.start(
            path,
            group_environment(key, layout.world_size, threads=threads, gpus=gpus, extra=settings.environment),
        )
        return group

    def _finish(self, trial: _Running) -> TrialRecord:
        request, group = trial.request, trial.group
        with contextlib.suppress(OSError):
            self._rendezvous(group.key).unlink()
        error = misuse(read_outcomes(request.folder))
        if error is not None:
            raise error
        return make_record(
            request.spec.trial_id,
            request.folder,
            request.layout,
            group.codes,
            seconds=group.seconds,
            timed_out=group.timed_out,
        )

    def _rendezvous(self, key: str) -> Path:
        assert self._scratch is not None
        return self._scratch / f"rendezvous-{key}"

    def _resolved_accelerator(self) -> str:
        if self._accelerator is None:
            self._accelerator = resolve_accelerator(self._settings.accelerator)
        return self._accelerator


def _tell(trial: _Running, progress: AbstractProgress) -> None:
    now = time.monotonic()
    if now - trial.told_at < TELL:
        return
    trial.told_at = now
    row = last_row(trial.request.folder)
    if row is not None:
        spec = trial.request.spec
        progress.trial_progress(spec.trial_id, int(row["step"]), spec.horizon, row.get("train_loss"))
