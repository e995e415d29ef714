"""Where trials run: what every launcher takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import SlurmSettings
from lrscale.registry import Registry
from lrscale.store import TrialRecord, TrialSpec
from lrscale.units import Layout


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """One trial to run, and where its files go."""

    spec: TrialSpec
    layout: Layout
    folder: Path
    """Folder of the trial; the launcher writes its trajectory and logs there, never the record."""
    instruments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those that ride along besides the ones of the spec: name -> settings. They do not change the trial's result."""
    keep: tuple[int, ...] = ()
    """Base steps after which the trial's state is kept, for trials that branch off there."""
    seconds: float | None = None
    """Expected to take, from what other trials took; None where nothing tells."""
    may_start: Callable[[], bool] | None = None
    """Asked right before each attempt at the trial. A trial that may not start is left out and yields no record; one
    that may not start again yields that of its first attempt. Default None: it may."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """What a launcher needs to know about the task and the machine."""

    root: Path
    """Folder that class paths and files of the recipe are relative to."""
    import_paths: tuple[str, ...] = (".",)
    """Folders, relative to `root`, from which the task's classes are imported."""
    preload: tuple[str, ...] = ()
    """Modules that are imported once, before the first trial."""
    accelerator: str = "auto"
    """``"auto"``, ``"cpu"`` or ``"gpu"``."""
    devices: int = 1
    """Devices (ranks) of one trial on each node, at most."""
    num_nodes: int = 1
    """Nodes of one trial, at most."""
    trials_at_once: int = 1
    """Trials that run side by side, each on its own devices."""
    timeout: float | None = None
    """Seconds after which a trial is ended; None waits for ever."""
    environment: Mapping[str, str] | None = None
    """Extra environment variables of the ranks."""
    study: Path | None = None
    """The study folder, on a file system that all machines share, for launchers of more than one machine."""
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    """How jobs are asked of SLURM."""
    note: Callable[[str], None] | None = None
    """Told what the user should know while the task is looked at, before there is progress to tell it to."""
    address: str | None = None
    """Address of a cluster, for launchers that connect to one; None for the one that they find."""


class AbstractLauncher(ABC):
    """Runs trials in processes of their own and returns how each ended.

    A launcher is a context: its processes live from `__enter__` to `__exit__`, and none outlives it.

    Parameters
    ----------
    settings : LaunchSettings
        What it needs to know about the task and the machine.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        self._settings = settings

    @abstractmethod
    def __enter__(self) -> AbstractLauncher: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Run trials and yield each record as its trial ends.

        Parameters
        ----------
        requests : sequence of TrialRequest
            Begun in this order.
        progress : AbstractProgress
            Told when a trial starts and how far it is.

        Yields
        ------
        TrialRecord
            In the order of ending. A trial that fails yields a record with a status.

        Raises
        ------
        TaskError
            When the task cannot be built at all, which no further trial would change.
        """

    @abstractmethod
    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Build the task in a process of its own, train nothing, and return the facts found."""


LAUNCHERS: Registry[type[AbstractLauncher]] = Registry("launcher")
