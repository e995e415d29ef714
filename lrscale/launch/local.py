"""One machine and its devices: fresh processes for every trial, forked from a server that has torch loaded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import final

from typing_extensions import override

from lrscale.errors import LayoutError
from lrscale.launch.base import LAUNCHERS, LaunchSettings
from lrscale.launch.devices import DevicePool, cpu_count, resolve_accelerator
from lrscale.launch.node import Node
from lrscale.launch.node_launcher import AbstractNodeLauncher
from lrscale.launch.processes.forkserver import Forkserver
from lrscale.launch.progress import AbstractProgress
from lrscale.units import Layout


@final
@LAUNCHERS.register("local")
class LocalLauncher(AbstractNodeLauncher):
    """Runs trials on this machine.

    Parameters
    ----------
    settings : LaunchSettings
        The task's import paths, devices and limits.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        self._server: Forkserver | None = None
        self._node: Node | None = None
        self._accelerator: str | None = None

    @override
    def __enter__(self) -> LocalLauncher:
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        if self._server is not None:
            self._server.stop()
        if self._node is not None:
            shutil.rmtree(self._node.scratch, ignore_errors=True)
        self._server = self._node = None

    @override
    def _ready_nodes(self, progress: AbstractProgress) -> list[Node]:
        if self._node is None:
            scratch = Path(tempfile.mkdtemp(prefix="lrscale-"))
            self._server = make_forkserver(self._settings, scratch)
            self._node = Node(
                name="this machine",
                server=self._server,
                pool=DevicePool.of_this_machine(self._resolved_accelerator()),
                cores=cpu_count(),
                scratch=scratch,
            )
        # Whether a server has died is for its events to tell: what it said before is still to be heard.
        if not self._node.server.running:
            for note in self._node.server.start():
                progress.note(note)
        return [self._node]

    @override
    def _check(self, nodes: Sequence[Node], layout: Layout, trials_at_once: int) -> None:
        if layout.num_nodes > 1:
            raise LayoutError(
                f"the local launcher has one node, not layout.num_nodes: {layout.num_nodes}",
                hint="set layout.num_nodes: 1, or start the command with torchrun or srun on that many nodes",
            )
        nodes[0].pool.check(layout.devices, trials_at_once)

    @override
    def _resolved_accelerator(self) -> str:
        if self._accelerator is None:
            self._accelerator = resolve_accelerator(self._settings.accelerator)
        return self._accelerator


def make_forkserver(settings: LaunchSettings, scratch: Path) -> Forkserver:
    """Return a server for the ranks of this machine, not started yet."""
    return Forkserver(scratch, settings.preload, import_paths(settings))


def import_paths(settings: LaunchSettings) -> tuple[str, ...]:
    """Return the folders that the task's classes are imported from, absolute."""
    return tuple(str((settings.root / path).resolve()) for path in settings.import_paths)
