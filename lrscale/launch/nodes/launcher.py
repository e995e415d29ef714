"""Trials on the ranks that torchrun or srun has given: the leader's launcher."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import final

from typing_extensions import override

from lrscale.errors import LayoutError, StudyError
from lrscale.launch.base import LAUNCHERS, LaunchSettings
from lrscale.launch.devices import DevicePool, visible_gpus
from lrscale.launch.local import import_paths, make_forkserver
from lrscale.launch.node import Node, room
from lrscale.launch.node_launcher import AbstractNodeLauncher, too_few_left
from lrscale.launch.nodes.allocation import Allocation, detect
from lrscale.launch.nodes.meeting import Gathering, Member
from lrscale.launch.nodes.network import interface_of
from lrscale.launch.nodes.remote_server import RemoteServer
from lrscale.launch.processes.forkserver import core_modules
from lrscale.launch.progress import AbstractProgress
from lrscale.units import Layout


@final
@LAUNCHERS.register("srun")
@LAUNCHERS.register("torchrun")
class AllocationLauncher(AbstractNodeLauncher):
    """Runs trials on the nodes of a worker group, as its leader.

    A node has as many places for ranks as processes were started on it. Where one was started on each node, it has all
    of the node: its visible GPUs, or a place for each CPU core.

    Parameters
    ----------
    settings : LaunchSettings
        The task's import paths, devices and limits.
    gathering : Gathering or None, optional
        The leader's meeting with the others, opened and closed by the caller, who says how it ended. Default None: the
        launcher opens one in the study folder of the settings, and the others end with code 0 when it is left.
    """

    def __init__(self, settings: LaunchSettings, gathering: Gathering | None = None) -> None:
        super().__init__(settings)
        self._given = gathering
        self._gathering: Gathering | None = gathering
        self._nodes: list[Node] = []
        self._told: set[str] = set()
        self._accelerator = "cpu"
        self._cores_before: set[int] | None = None

    @override
    def __enter__(self) -> AllocationLauncher:
        if self._gathering is None:
            allocation = detect(os.environ)
            if allocation is None or not allocation.leads or self._settings.study is None:
                raise StudyError(
                    "this process leads no ranks of torchrun or srun",
                    hint="start the command with torchrun --nproc-per-node N -m lrscale run RECIPE, or with "
                    "srun lrscale run RECIPE",
                )
            self._gathering = Gathering(allocation, self._settings.study)
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del error, trace
        for node in self._nodes:
            node.server.stop()
        if self._gathering is not None and self._given is None:
            if kind is None:
                self._gathering.end(0)
            self._gathering.close()
        if self._nodes:
            shutil.rmtree(self._nodes[0].scratch, ignore_errors=True)
        if self._cores_before is not None:
            os.sched_setaffinity(0, self._cores_before)
        self._nodes, self._gathering = [], self._given

    @override
    def _ready_nodes(self, progress: AbstractProgress) -> list[Node]:
        if not self._nodes:
            self._nodes = self._gather(progress)
        self._tell_of_lost_nodes(progress)
        waiting = [node for node in self._nodes if not node.server.running and not node.server.gone]
        for node in waiting:
            if isinstance(node.server, RemoteServer):
                # All nodes load at the same time.
                node.server.ask_to_start()
        for node in waiting:
            for note in node.server.start():
                progress.note(note)
        self._tell_of_lost_nodes(progress)
        return [node for node in self._nodes if not node.server.gone]

    @override
    def _check(self, nodes: Sequence[Node], layout: Layout, trials_at_once: int) -> None:
        fits = room(nodes, layout)
        if fits >= trials_at_once:
            return
        if room(self._nodes, layout) >= trials_at_once:
            # Nodes were lost meanwhile; fewer trials side by side are as good.
            if fits:
                return
            raise too_few_left(nodes, layout)
        where = f"{layout.devices} devices" if layout.num_nodes == 1 else f"{layout.num_nodes} x {layout.devices}"
        wanted = f"a trial of {where}" if trials_at_once == 1 else f"{trials_at_once} trials at once of {where}"
        have = ", ".join(f"{node.pool.holds(1)} on {node.name}" for node in nodes)
        raise LayoutError(
            f"{wanted} does not fit the ranks that were given: {have}",
            hint=f"set layout.trials_at_once: {fits}"
            if fits
            else "set layout.devices and layout.num_nodes to what was given, or start more ranks",
        )

    @override
    def _neighbours(self, layout: Layout) -> int:
        held = [node.pool.holds(layout.devices) for node in self._nodes]
        asked = -(-self._settings.trials_at_once * layout.num_nodes // len(self._nodes))
        return max(1, min(asked, max(held)))

    @override
    def _resolved_accelerator(self) -> str:
        return self._accelerator

    def _gather(self, progress: AbstractProgress) -> list[Node]:
        assert self._gathering is not None
        allocation = self._gathering.allocation
        members, missing = self._gathering.wait()
        if missing:
            progress.note(f"ranks {_listed(missing)} of {allocation.world_size} have not come, and are left out")
        cores = _cores_by_node(allocation, members)
        actors = {member.hello["node"]: member for member in members.values() if member.server is not None}
        started = {number: sum(member.hello["node"] == number for member in members.values()) for number in actors}
        gpus = {allocation.node: visible_gpus(), **{number: one.hello["gpus"] for number, one in actors.items()}}
        self._accelerator = self._settle_accelerator(gpus)
        if hasattr(os, "sched_setaffinity"):
            self._cores_before = os.sched_getaffinity(0)
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, cores[allocation.node])
        scratch = Path(tempfile.mkdtemp(prefix="lrscale-"))
        name = f"node {allocation.node} ({socket.gethostname()})"
        nodes = [
            Node(
                name=name,
                server=make_forkserver(self._settings, scratch),
                pool=self._pool(name, allocation.local_world_size, gpus[allocation.node], len(cores[allocation.node])),
                cores=len(cores[allocation.node]),
                scratch=scratch,
                address=self._gathering.address,
                interface=interface_of(self._gathering.address),
            )
        ]
        for number, member in sorted(actors.items()):
            assert member.server is not None
            member.server.prepare(
                {
                    "modules": self._settings.preload,
                    "paths": import_paths(self._settings),
                    "core": core_modules(),
                    "cores": sorted(cores[number]),
                }
            )
            nodes.append(
                Node(
                    name=member.name,
                    server=member.server,
                    pool=self._pool(member.name, started[number], gpus[number], len(cores[number])),
                    cores=len(cores[number]),
                    scratch=Path(member.hello["scratch"]),
                    address=member.channel.there,
                    interface=member.hello["interface"],
                )
            )
        return nodes

    def _settle_accelerator(self, gpus: dict[int, list[str]]) -> str:
        asked = self._settings.accelerator
        without = sorted(number for number, names in gpus.items() if not names)
        if asked == "cpu" or (asked == "auto" and len(without) == len(gpus)):
            return "cpu"
        if without:
            raise LayoutError(
                f"node {_listed(without)} sees no GPU, others do" if asked == "auto" else "a node sees no GPU",
                hint="set layout.accelerator: cpu, or give every node its GPUs",
            )
        return "gpu"

    def _pool(self, name: str, started: int, gpus: Sequence[str], cores: int) -> DevicePool:
        if self._accelerator == "cpu":
            return DevicePool("cpu", [str(place) for place in range(started if started > 1 else cores)])
        if len(gpus) < started:
            raise LayoutError(
                f"{name} has {started} ranks and its first one sees {len(gpus)} GPUs",
                hint="let each task see all GPUs of its node: srun --gpus-per-node or --gres, with --gpu-bind=none",
            )
        return DevicePool("gpu", gpus[:started] if started > 1 else gpus)

    def _tell_of_lost_nodes(self, progress: AbstractProgress) -> None:
        for node in self._nodes:
            if node.server.gone and node.name not in self._told:
                self._told.add(node.name)
                assert isinstance(node.server, RemoteServer)
                progress.note(f"{node.name} is lost: {node.server.why_gone}; trials go on without it")


def _cores_by_node(allocation: Allocation, members: dict[int, Member]) -> dict[int, set[int]]:
    """Return the CPU cores that the processes of each node may use together."""
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found: dict[int, set[int]] = {allocation.node: set(own)}
    for member in members.values():
        found.setdefault(member.hello["node"], set()).update(member.hello["cores"])
    return found


def _listed(numbers: Sequence[int] | set[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))
