"""A Ray cluster: each trial is a job of Ray Train on its CPUs or GPUs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import LayoutError, StudyError, TaskError
from lrscale.launch.base import LAUNCHERS, AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.job import clear_traces, write_job
from lrscale.launch.outcome import misuse, read_outcomes
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.ray.cluster import Cluster
from lrscale.launch.ray.group import RayGroup
from lrscale.launch.ray.room import Claim, rank_cpus
from lrscale.launch.ray.shared_folder import check_shared
from lrscale.launch.tail import last_row
from lrscale.store import TrialRecord
from lrscale.units import Layout

TICK = 0.1
"""Seconds between looks at what has ended."""
TELL = 1.0
"""Seconds between looks at how far a trial is, and at what is free."""
ATTEMPTS = 2
"""A trial whose processes or node were lost is run once more; what its own code does is not retried."""
SAY_SO = 10.0
"""Seconds of waiting for room after which it is said."""
ROOM_PATIENCE = 300.0
"""Seconds that nodes which were lost get to come back, where no other has room for a trial."""


@final
@dataclass(slots=True)
class _Running:
    request: TrialRequest
    group: RayGroup
    attempt: int
    told_at: float = field(default_factory=time.monotonic)


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
        waiting = deque((request, 1) for request in requests)
        if not waiting:
            return
        self._refuse_what_never_fits(requests)
        self.check_nodes(requests[0].folder.parent, progress)
        room = _Room(self._cluster, progress)
        running: list[_Running] = []
        lost: dict[str, TrialRecord] = {}
        try:
            while waiting or running:
                while waiting and self._may_begin(waiting[0][0], running, room):
                    request, attempt = waiting.popleft()
                    if request.may_start is None or request.may_start():
                        running.append(self._start(request, attempt, progress))
                    elif attempt > 1:
                        yield lost[request.spec.trial_id]
                for trial in self._ended(running):
                    running.remove(trial)
                    record = trial.group.record(trial.request.spec.trial_id, trial.request.layout)
                    if record.retryable and trial.attempt < ATTEMPTS:
                        progress.note(f"trial {record.trial_id}: {record.reason}; it is run once more")
                        lost[record.trial_id] = record
                        waiting.appendleft((trial.request, trial.attempt + 1))
                    else:
                        yield record
                for trial in running:
                    _tell(trial, progress)
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
        for _ in range(ATTEMPTS):
            clear_traces(folder)
            group = self._start_group({**job, "purpose": "inspect"}, layout, folder, None)
            try:
                while not self._ended_refs([group.ref]):
                    pass
            except BaseException:
                group.kill()
                raise
            outcomes = read_outcomes(folder)
            error = misuse(outcomes)
            if error is not None:
                raise error
            if 0 in outcomes and outcomes[0]["kind"] == "result":
                return dict(outcomes[0]["fields"])
            record = group.record("inspect", layout)
            log = f"its log is {folder.resolve() / 'rank-0.log'}"
            if not record.retryable:
                raise TaskError(f"the task cannot be built: {record.reason}", hint=log)
        raise StudyError(
            f"the process that builds the task to look at it was lost {ATTEMPTS} times: {record.reason}",
            hint=f"{log}; the same command tries again",
        )

    def _start(self, request: TrialRequest, attempt: int, progress: AbstractProgress) -> _Running:
        clear_traces(request.folder)
        job = {
            "spec": request.spec.to_dict(),
            "purpose": "train",
            "instruments": {name: dict(settings) for name, settings in request.instruments.items()},
        }
        group = self._start_group(job, request.layout, request.folder, self._settings.timeout)
        if attempt == 1:
            progress.trial_started(request.spec, request.layout)
        return _Running(request, group, attempt)

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
        if now - self._asked_at < TELL and self._waiting_since is not None:
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


def _tell(trial: _Running, progress: AbstractProgress) -> None:
    now = time.monotonic()
    if now - trial.told_at < TELL:
        return
    trial.told_at = now
    row = last_row(trial.request.folder)
    if row is not None:
        spec = trial.request.spec
        progress.trial_progress(spec.trial_id, int(row["step"]), spec.horizon, row.get("train_loss"))
