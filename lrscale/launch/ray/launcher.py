"""A Ray cluster: each trial is a job of Ray Train on its CPUs or GPUs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import LayoutError, StudyError
from lrscale.launch.attempts import Attempt, Attempts, look_at_task
from lrscale.launch.base import LAUNCHERS, AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.job import clear_traces, train_job, write_job
from lrscale.launch.outcome import has_result
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.ray.cluster import Cluster
from lrscale.launch.ray.group import RayGroup
from lrscale.launch.ray.room import Claim, rank_cpus
from lrscale.launch.ray.shared_folder import check_shared
from lrscale.launch.tail import HowFar
from lrscale.store import TrialRecord
from lrscale.units import Layout

TICK = 0.1
"""Seconds between looks at what has ended."""
ASK = 1.0
"""Seconds between looks at what is free."""
SAY_SO = 10.0
"""Seconds of waiting for room after which it is said."""
ROOM_PATIENCE = 300.0
"""Seconds that nodes which were lost get to come back, where no other has room for a trial."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    attempt: Attempt
    group: RayGroup
    how_far: HowFar

    @property
    def request(self) -> TrialRequest:
        return self.attempt.request


@final
@LAUNCHERS.register("ray")
class RayLauncher(AbstractLauncher):
    """Runs trials on a Ray cluster, which is the one at `LaunchSettings.address` or one of this machine.

    The driver must run on a node of the cluster, and all nodes must see the study folder at the same path. Trials begin
    in the order given, up to `trials_at_once` of them side by side as the cluster has room. A trial with a pinned
    layout, which is there to be timed, runs alone.

    Parameters
    ----------
    settings : LaunchSettings
        The task's import paths, devices and limits, and the cluster's address.
    checked : bool, optional
        Whether the nodes are known to see the study folder. Default False: they are asked.
    """

    def __init__(self, settings: LaunchSettings, *, checked: bool = False) -> None:
        super().__init__(settings)
        self._cluster = Cluster(settings.address)
        self._ask_nodes = not checked
        self._checked: set[str] = set()

    def __enter__(self) -> RayLauncher:
        self._cluster.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._cluster.close()

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Run trials side by side as far as the cluster goes; see `AbstractLauncher.run`."""
        if not requests:
            return
        self._refuse_what_never_fits(requests)
        self.check_nodes(requests[0].folder.parent, progress)
        attempts = Attempts(requests, progress)
        room = _Room(self._cluster, progress)
        running: list[_Running] = []
        try:
            while attempts.next is not None or running:
                while (request := attempts.next) is not None and self._may_begin(request, running, room):
                    attempt = attempts.begin()
                    if attempt is not None:
                        running.append(self._start(attempt, progress))
                for trial in self._ended(running):
                    running.remove(trial)
                    record = trial.group.record(trial.request.spec.trial_id, trial.request.layout)
                    attempts.end(trial.attempt, record)
                yield from attempts.over()
                for trial in running:
                    trial.how_far.tell(progress)
        finally:
            for trial in running:
                trial.group.kill()

    @property
    def settings(self) -> LaunchSettings:
        """What it was made with."""
        return self._settings

    def side_by_side(self, layouts: Iterable[Layout]) -> int:
        """Return how many trials of any of some layouts run at once: at least 1, at most `trials_at_once`."""
        nodes = self._cluster.nodes()
        return max(1, min(self._settings.trials_at_once, *(self._claim(one).count(nodes) for one in layouts)))

    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Build the task in one process of the cluster; see `AbstractLauncher.inspect`."""
        folder.mkdir(parents=True, exist_ok=True)
        return look_at_task(lambda: self._inspect_once({**job, "purpose": "inspect"}, layout, folder), folder)

    def _inspect_once(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> TrialRecord | None:
        clear_traces(folder)
        group = self._start_group(job, layout, folder, None)
        try:
            while not self._ended_refs([group.ref]):
                pass
        except BaseException:
            group.kill()
            raise
        return None if has_result(folder) else group.record("inspect", layout)

    def _start(self, attempt: Attempt, progress: AbstractProgress) -> _Running:
        request = attempt.request
        clear_traces(request.folder)
        group = self._start_group(train_job(request), request.layout, request.folder, self._settings.timeout)
        if attempt.number == 1:
            progress.trial_started(request.spec, request.layout)
        return _Running(attempt, group, HowFar(request))

    def _start_group(self, job: Mapping[str, Any], layout: Layout, folder: Path, limit: float | None) -> RayGroup:
        settings, claim = self._settings, self._claim(layout)
        path = write_job(
            folder,
            {**job, "process_group": "ray"},
            settings=settings,
            layout=layout,
            accelerator="gpu" if claim.gpu else "cpu",
            rendezvous="env://",
            threads=claim.cpus,
        )
        group = {
            "job": str(path),
            "folder": str(folder.resolve()),
            "world_size": claim.world_size,
            "gpu": claim.gpu,
            "cpus": claim.cpus,
            "placement": claim.placement,
            "environment": dict(settings.environment or {}),
            "working_folder": str(Path.cwd()),
            "limit": limit,
        }
        return RayGroup(group, limit)

    def _claim(self, layout: Layout) -> Claim:
        nodes = self._cluster.nodes()
        gpus = sum(node.gpus for node in nodes)
        wanted = self._settings.accelerator
        if wanted == "gpu" and not gpus:
            raise LayoutError(
                "layout.accelerator is gpu, but the Ray cluster has none", hint="set layout.accelerator: cpu"
            )
        gpu = wanted != "cpu" and gpus > 0
        cpus = rank_cpus(layout, nodes, gpu=gpu, at_once=self._settings.trials_at_once)
        return Claim.of(layout, gpu=gpu, cpus=cpus)

    def _refuse_what_never_fits(self, requests: Sequence[TrialRequest]) -> None:
        nodes = self._cluster.nodes()
        for layout in dict.fromkeys(request.layout for request in requests):
            claim = self._claim(layout)
            if not claim.fits(nodes):
                kind = "GPU" if claim.gpu else "CPU"
                have = ", ".join(f"{node.gpus if claim.gpu else node.cpus:g}" for node in nodes)
                raise LayoutError(
                    f"a trial takes {claim}; the nodes of the Ray cluster have {have} {kind}s",
                    hint="set layout.devices and layout.num_nodes to what it has",
                )

    def check_nodes(self, folder: Path, progress: AbstractProgress) -> None:
        """Ask the nodes that were not asked yet whether they see a folder.

        Raises
        ------
        StudyError
            When one does not.
        """
        if not self._ask_nodes:
            return
        new = [node for node in self._cluster.nodes() if node.node_id not in self._checked and (node.cpus or node.gpus)]
        for note in check_shared(folder, new) if new else ():
            progress.note(note)
        self._checked |= {node.node_id for node in new}

    def _may_begin(self, request: TrialRequest, running: Sequence[_Running], room: _Room) -> bool:
        if running:
            alone = any(trial.spec.layout is not None for trial in (request, *(one.request for one in running)))
            if alone or len(running) >= self._settings.trials_at_once:
                return False
        return room.has(self._claim(request.layout), alone=not running)

    def _ended(self, running: Sequence[_Running]) -> list[_Running]:
        for trial in running:
            trial.group.watch()
        ended = self._ended_refs([trial.group.ref for trial in running])
        return [trial for trial in running if trial.group.ref in ended]

    def _ended_refs(self, refs: list[Any]) -> list[Any]:
        import ray

        if not refs:
            time.sleep(TICK)
            return []
        ended: list[Any] = ray.wait(refs, num_returns=len(refs), timeout=TICK)[0]
        return ended


@final
class _Room:
    """Whether the cluster has room now, asked once in a while, and who is told when it has none."""

    def __init__(self, cluster: Cluster, progress: AbstractProgress) -> None:
        self._cluster = cluster
        self._progress = progress
        self._asked_at = 0.0
        self._waiting_since: float | None = None
        self._said = False

    def has(self, claim: Claim, *, alone: bool) -> bool:
        now = time.monotonic()
        if now - self._asked_at < ASK and self._waiting_since is not None:
            return False
        self._asked_at = now
        nodes = self._cluster.nodes()
        if claim.fits(self._cluster.free(nodes)):
            self._waiting_since, self._said = None, False
            return True
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        waited = now - self._waiting_since
        if alone and waited > SAY_SO and not self._said:
            self._progress.note(f"waiting for room in the Ray cluster: a trial takes {claim}")
            self._said = True
        if alone and waited > ROOM_PATIENCE and not claim.fits(nodes):
            raise StudyError(
                f"the Ray cluster has lost nodes and has no room left for a trial, which takes {claim}",
                hint="run the same command again when they are back",
            )
        return False
