"""Trials on nodes that each have a server to start ranks: what this machine alone and a worker group share."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.launch.attempts import Attempt, Attempts, look_at_task
from lrscale.launch.base import AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.job import World, clear_traces, group_environment, rank_threads, train_job, write_job
from lrscale.launch.node import Node, lend
from lrscale.launch.outcome import await_outcomes, has_result, make_record, misuse, read_outcomes
from lrscale.launch.processes.base import hear
from lrscale.launch.processes.group import RankGroup, Share
from lrscale.launch.progress import AbstractProgress, SilentProgress
from lrscale.launch.tail import HowFar
from lrscale.store import TrialRecord
from lrscale.units import Layout

TICK = 0.1
"""Seconds between looks at time limits while nothing is heard."""

Lent = Sequence[tuple[Node, tuple[str, ...]]]
"""Nodes of a trial, each with the devices that it has there."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    attempt: Attempt
    group: RankGroup
    lent: Lent
    how_far: HowFar

    @property
    def request(self) -> TrialRequest:
        return self.attempt.request


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
        if not requests:
            return
        attempts = Attempts(requests, progress)
        nodes = self._ready_nodes(progress)
        for asked in requests:
            self._check(nodes, asked.layout, self._at_once(asked))
        running: list[_Running] = []
        try:
            while attempts.next is not None or running:
                while (request := attempts.next) is not None and self._has_room(request, running):
                    nodes = self._ready_nodes(progress)
                    lent = lend(nodes, request.layout)
                    if lent is None:
                        if not running:
                            # Nodes were lost, and what is left holds no such trial.
                            attempts.give_up()
                            yield from attempts.over()
                            raise too_few_left(nodes, request.layout)
                        break
                    attempt = attempts.begin()
                    if attempt is None:
                        _give_back(lent)
                    else:
                        running.append(self._start(attempt, lent, progress))
                self._pump([trial.group for trial in running])
                for trial in [trial for trial in running if trial.group.ended]:
                    running.remove(trial)
                    _give_back(trial.lent)
                    attempts.end(trial.attempt, self._finish(trial))
                yield from attempts.over()
                for trial in running:
                    trial.how_far.tell(progress)
        finally:
            self._end([trial.group for trial in running])

    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Build the task in one fresh process; see `AbstractLauncher.inspect`."""
        folder.mkdir(parents=True, exist_ok=True)
        return look_at_task(lambda: self._inspect_once({**job, "purpose": "inspect"}, layout, folder), folder)

    def _inspect_once(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> TrialRecord | None:
        clear_traces(folder)
        node = self._ready_nodes(SilentProgress())[0]
        group = self._start_group(job, layout, folder, "inspect", [(node, ())], None)
        try:
            while not group.ended:
                self._pump([group])
        finally:
            self._end([group])
        if has_result(folder):
            return None
        return make_record("inspect", folder, layout, group.codes, seconds=group.seconds, timed_out=False)

    def _at_once(self, request: TrialRequest) -> int:
        return 1 if request.spec.layout is not None else self._settings.trials_at_once

    def _has_room(self, request: TrialRequest, running: Sequence[_Running]) -> bool:
        if not running:
            return True
        alone = any(trial.spec.layout is not None for trial in (request, *(trial.request for trial in running)))
        return not alone and len(running) < self._settings.trials_at_once

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

    def _start(self, attempt: Attempt, lent: Lent, progress: AbstractProgress) -> _Running:
        request = attempt.request
        clear_traces(request.folder)
        name, limit = request.spec.trial_id, self._settings.timeout
        group = self._start_group(train_job(request), request.layout, request.folder, name, lent, limit)
        if attempt.number == 1:
            progress.trial_started(request.spec, request.layout)
        return _Running(attempt, group, lent, HowFar(request))

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
