"""Trials on nodes that each have a server to start ranks: what this machine alone and a worker group share."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError, TaskError
from lrscale.launch.base import AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.job import World, clear_traces, group_environment, rank_threads, write_job
from lrscale.launch.node import Node, lend
from lrscale.launch.outcome import await_outcomes, make_record, misuse, read_outcomes
from lrscale.launch.processes.base import hear
from lrscale.launch.processes.group import RankGroup, Share
from lrscale.launch.progress import AbstractProgress, SilentProgress
from lrscale.launch.tail import last_row
from lrscale.store import TrialRecord
from lrscale.units import Layout

TICK = 0.1
"""Seconds between looks at time limits while nothing is heard."""
TELL = 1.0
"""Seconds between looks at how far a trial is."""
SILENCE = 600.0
"""Seconds without a new step after which the user is told of a trial: it may hang, or its steps are that long."""
ATTEMPTS = 2
"""A trial whose processes were lost is run once more; what its own code does is not retried."""

Lent = Sequence[tuple[Node, tuple[str, ...]]]
"""Nodes of a trial, each with the devices that it has there."""


@final
@dataclass(slots=True)
class _Running:
    request: TrialRequest
    group: RankGroup
    lent: Lent
    attempt: int
    told_at: float
    step: int = 0
    """The last that was seen."""
    stepped_at: float = field(default_factory=time.monotonic)
    silence_told: bool = False


class AbstractNodeLauncher(AbstractLauncher):
    """Runs trials side by side as far as the devices of its nodes go.

    Trials begin in the order given, `trials_at_once` of them side by side. A trial with a pinned layout, which is there
    to be timed, runs alone. A trial that loses a process, or a node, is run once more.

    Parameters
    ----------
    settings : LaunchSettings
        The task's import paths, devices and limits.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        self._groups = 0

    @abstractmethod
    def _ready_nodes(self, progress: AbstractProgress) -> list[Node]:
        """Return the nodes that are left, the leader's first, each with a server that runs."""

    @abstractmethod
    def _resolved_accelerator(self) -> str:
        """Return ``"cpu"`` or ``"gpu"``."""

    @abstractmethod
    def _check(self, nodes: Sequence[Node], layout: Layout, trials_at_once: int) -> None:
        """Refuse a layout that the nodes do not have, by a LayoutError."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Run trials side by side as far as the devices go; see `AbstractLauncher.run`."""
        waiting = deque((request, 1) for request in requests)
        if not waiting:
            return
        nodes = self._ready_nodes(progress)
        for request in requests:
            self._check(nodes, request.layout, self._at_once(request))
        running: list[_Running] = []
        lost: dict[str, TrialRecord] = {}
        try:
            while waiting or running:
                while waiting and self._has_room(waiting[0][0], running):
                    nodes = self._ready_nodes(progress)
                    lent = lend(nodes, waiting[0][0].layout)
                    if lent is None:
                        if not running:
                            yield from self._lost_for_good(waiting, lost, nodes)
                        break
                    request, attempt = waiting.popleft()
                    if request.may_start is None or request.may_start():
                        running.append(self._start(request, lent, attempt, progress))
                        continue
                    _give_back(lent)
                    if attempt > 1:
                        yield lost[request.spec.trial_id]
                self._pump([trial.group for trial in running])
                for trial in [trial for trial in running if trial.group.ended]:
                    running.remove(trial)
                    _give_back(trial.lent)
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
        node = self._ready_nodes(SilentProgress())[0]
        group = self._start_group(job, layout, folder, "inspect", [(node, ())], None)
        try:
            while not group.ended:
                self._pump([group])
        finally:
            self._end([group])
        outcomes = read_outcomes(folder)
        if 0 in outcomes and outcomes[0]["kind"] == "result":
            return TrialRecord(trial_id="inspect", status="completed")
        return make_record("inspect", folder, layout, group.codes, seconds=group.seconds, timed_out=False)

    def _at_once(self, request: TrialRequest) -> int:
        return 1 if request.spec.layout is not None else self._settings.trials_at_once

    def _has_room(self, request: TrialRequest, running: Sequence[_Running]) -> bool:
        if not running:
            return True
        alone = any(trial.spec.layout is not None for trial in (request, *(trial.request for trial in running)))
        return not alone and len(running) < self._settings.trials_at_once

    def _lost_for_good(
        self, waiting: deque[tuple[TrialRequest, int]], lost: Mapping[str, TrialRecord], nodes: Sequence[Node]
    ) -> Iterator[TrialRecord]:
        """Hand on the record of a trial that was lost with its node, then stop: what is left holds no such trial."""
        request, attempt = waiting.popleft()
        if attempt > 1:
            yield lost[request.spec.trial_id]
        raise too_few_left(nodes, request.layout)

    def _pump(self, groups: Sequence[RankGroup]) -> None:
        """Hear the servers for a moment, and hold the groups to their limits."""
        servers = list(dict.fromkeys(server for group in groups for server in group.servers))
        for server, event in hear(servers, TICK):
            for group in groups:
                group.take(server, event)
        for group in groups:
            if not group.ended:
                group.watch()

    def _end(self, groups: Sequence[RankGroup]) -> None:
        """Kill groups and wait until they are gone, so that nothing writes into their folders any more."""
        left = [group for group in groups if not group.ended]
        for group in left:
            group.kill()
        while any(not group.ended for group in left):
            self._pump(left)

    def _start(self, request: TrialRequest, lent: Lent, attempt: int, progress: AbstractProgress) -> _Running:
        clear_traces(request.folder)
        job = {
            "spec": request.spec.to_dict(),
            "purpose": "train",
            "instruments": {name: dict(settings) for name, settings in request.instruments.items()},
        }
        name, limit = request.spec.trial_id, self._settings.timeout
        group = self._start_group(job, request.layout, request.folder, name, lent, limit)
        if attempt == 1:
            progress.trial_started(request.spec, request.layout)
        return _Running(request, group, lent, attempt, told_at=group.started)

    def _start_group(
        self, job: Mapping[str, Any], layout: Layout, folder: Path, name: str, lent: Lent, limit: float | None
    ) -> RankGroup:
        settings, accelerator = self._settings, self._resolved_accelerator()
        self._groups += 1
        key = f"{name}-{self._groups}"
        first = lent[0][0]
        try:
            port = first.server.free_port()
        except ConnectionError:
            port = 0  # The node is gone, which its events will tell of the group.
        shares = []
        for place, (node, names) in enumerate(lent):
            threads = rank_threads(layout.devices * self._neighbours(layout), node.cores)
            world = World(
                key=key,
                world_size=layout.world_size,
                local_world_size=layout.devices,
                master=first.address if len(lent) > 1 else "127.0.0.1",
                port=port,
                node=place,
                nodes=len(lent),
                interface=node.interface if len(lent) > 1 else "lo",
            )
            gpus = names if accelerator == "gpu" else ()
            environment = group_environment(world, threads=threads, gpus=gpus, extra=settings.environment)
            ranks = range(place * layout.devices, (place + 1) * layout.devices)
            shares.append(Share(server=node.server, ranks=ranks, environment=environment, node=node.name))
        path = write_job(
            folder,
            job,
            settings=settings,
            layout=layout,
            accelerator=accelerator,
            rendezvous=f"tcp://{first.address}:{port}" if len(lent) > 1 else f"file://{_meeting_file(first, key)}",
            threads=int(shares[0].environment["OMP_NUM_THREADS"]),
            # Another machine may remember the file of an earlier attempt.
            name=f"job-{key}.json" if any(node.server.far for node, _ in lent) else "job.json",
        )
        group = RankGroup(shares, key, folder, limit)
        group.start(path)
        return group

    def _neighbours(self, layout: Layout) -> int:
        """Return how many trials may share a node with one of this layout, that one included."""
        return self._settings.trials_at_once

    def _finish(self, trial: _Running) -> TrialRecord:
        request, group = trial.request, trial.group
        with contextlib.suppress(OSError):
            # Of another node it lies in a folder that is not here, and goes with it.
            _meeting_file(trial.lent[0][0], group.key).unlink()
        if any(node.server.far for node, _ in trial.lent):
            await_outcomes(request.folder, [rank for rank, code in group.codes.items() if code == 0])
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
            lost_node=group.lost_node,
        )


def too_few_left(nodes: Sequence[Node], layout: Layout) -> StudyError:
    """Return the error that ends a study whose trials fitted before nodes were lost."""
    where = f"{layout.devices} devices" if layout.num_nodes == 1 else f"{layout.num_nodes} x {layout.devices}"
    left = ", ".join(node.name for node in nodes) or "none"
    return StudyError(
        f"the nodes that are left ({left}) do not hold a trial of {where}",
        hint="finished trials are kept; the same command on enough nodes goes on",
    )


def _meeting_file(node: Node, key: str) -> Path:
    return node.scratch / f"rendezvous-{key}"


def _give_back(lent: Lent) -> None:
    for node, names in lent:
        node.pool.give_back(names)


def _tell(trial: _Running, progress: AbstractProgress) -> None:
    now = time.monotonic()
    if now - trial.told_at < TELL:
        return
    trial.told_at = now
    row = last_row(trial.request.folder)
    spec = trial.request.spec
    if row is not None:
        progress.trial_progress(spec.trial_id, int(row["step"]), spec.horizon, row.get("train_loss"))
    step = 0 if row is None else int(row["step"])
    if step != trial.step:
        trial.step, trial.stepped_at, trial.silence_told = step, now, False
    elif now - trial.stepped_at > SILENCE and not trial.silence_told:
        trial.silence_told = True
        progress.note(
            f"trial {spec.trial_id} has made no step for {SILENCE / 60:.0f} minutes (the last was {step}); "
            "if it hangs, layout.timeout ends such trials"
        )
