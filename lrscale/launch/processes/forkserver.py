"""The driver's end of the forkserver."""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, final

from typing_extensions import override

from lrscale.errors import StudyError
from lrscale.launch.devices import free_port
from lrscale.launch.processes.base import AbstractServer

CORE_MODULES = ("torch", "torch.distributed", "pytorch_lightning", "lrscale.training.rank")
"""Loaded before the first fork; ``lightning.pytorch`` too where it is installed."""
START_TIMEOUT = 600.0
"""Seconds to load torch, Lightning and the task's modules; torch alone has been seen to take minutes from a cold
shared file system."""
STOP_TIMEOUT = 15.0
"""Seconds until everything is killed and waited for; longer than the reaper's own patience."""
LOG_LINES = 5
"""Lines of the server's log in the message when it does not come up."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Libraries of linear algebra start a pool of threads when they are loaded, and a fork has none of them."""


@final
class Forkserver(AbstractServer):
    """A running server process below its reaper, and what it says.

    Parameters
    ----------
    scratch : Path
        A folder of this server's own; its reaper removes it when the driver dies.
    modules : sequence of str
        Modules of the task to load before the first fork.
    paths : sequence of str
        Folders put in front of the import path.
    core : sequence of str or None, optional
        Modules that the worker needs. Default None: torch, Lightning and lrscale's own worker.
    watch : callable or None, optional
        Called about once a second while the server loads; what it raises ends the start. Default None.
    """

    def __init__(
        self,
        scratch: Path,
        modules: tuple[str, ...],
        paths: tuple[str, ...],
        core: tuple[str, ...] | None = None,
        watch: Callable[[], None] | None = None,
    ) -> None:
        self._scratch = scratch
        self._watch = watch
        self._log_path = scratch / "server.log"
        self._core = core_modules() if core is None else core
        self._modules = modules
        self._paths = paths
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._lifeline: int | None = None
        self._pending = b""
        self._last_words = ""

    @override
    def start(self) -> list[str]:
        """Start the server; see `AbstractServer.start`.

        The task's modules are loaded only as far as that leaves a process that can be forked; the ranks import the
        rest.
        """
        notes: dict[str, None] = {}
        while True:
            modules = self._modules
            ready = self._start_once(modules)
            if ready is None:
                if not modules:
                    raise StudyError(f"the process that starts trials did not come up: {self._last_words}")
                self._modules = ()
                notes[f"the modules of the task are imported by each rank: {self._last_words}"] = None
                continue
            notes.update(dict.fromkeys(ready["notes"]))
            if ready["unsafe"] is None:
                return list(notes)
            self.stop()
            # What stands before it in the list was fine.
            self._modules = modules[: modules.index(ready["unsafe"])]
            notes[f"{ready['unsafe']} is imported by each rank: importing it starts threads or CUDA"] = None

    @property
    @override
    def running(self) -> bool:
        return self._process is not None

    @property
    @override
    def gone(self) -> bool:
        return False

    @property
    @override
    def far(self) -> bool:
        return False

    @override
    def send(self, message: Mapping[str, Any]) -> bool:
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    @override
    def fileno(self) -> int:
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.fileno()

    @override
    def free_port(self) -> int:
        # The ranks of other nodes come in by any interface.
        return free_port("")

    @override
    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        if self._process is None or self._process.stdout is None:
            yield {"event": "lost"}
            return
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            self.stop()
            yield {"event": "lost"}
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    @override
    def stop(self) -> None:
        """End the server and every process that it has started, and wait until they are gone."""
        process, self._process, self._pending = self._process, None, b""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass
            try:
                process.wait(timeout=STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _start_once(self, modules: tuple[str, ...]) -> dict[str, Any] | None:
        self._scratch.mkdir(exist_ok=True)
        self._log = self._log_path.open("ab")
        lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("reaper.py")), str(lifeline), str(self._scratch)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                pass_fds=(lifeline,),
                start_new_session=True,
                env=_server_environment(),
            )
        finally:
            os.close(lifeline)
        self.send({"op": "preload", "core": self._core, "modules": modules, "paths": self._paths})
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._watch is not None:
                self._watch()
            for event in self.events(timeout=1.0):
                if event["event"] == "ready":
                    return event
                if event["event"] == "lost":
                    self._last_words = self._end_of_log() or "it ended without a word"
                    return None
        self._last_words = f"not ready after {START_TIMEOUT:.0f} s: {self._end_of_log()}"
        self.stop()
        return None

    def _end_of_log(self) -> str:
        try:
            text = self._log_path.read_text(errors="replace")
        except OSError:
            return ""
        return " | ".join(text.strip().splitlines()[-LOG_LINES:])


def core_modules() -> tuple[str, ...]:
    """Return the modules that the worker needs, as far as they are installed here."""
    unified = ("lightning.pytorch",) if importlib.util.find_spec("lightning") is not None else ()
    return (*CORE_MODULES, *unified)


WAIT_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which users say how OpenMP's threads wait for each other; the libraries read them when they are loaded.

Where none is set, the threads of a rank sleep instead of spinning. A thread that spins while the one that it waits for
has lost its core makes a step of a small network some forty times slower on a machine that does anything else."""


GROUP_VARIABLES = frozenset(
    {
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
        "ROLE_WORLD_SIZE", "ROLE_NAME", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
        "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NPROCS",
    }
)  # fmt: skip
"""What torchrun and srun have told the driver about itself.

It is wrong in a rank of a trial, whose own values come with the trial: torchrun's agent store would be waited for in
vain (TORCHELASTIC_USE_AGENT_STORE), and Lightning takes SLURM_NTASKS for the sign that srun has started its ranks."""


def _server_environment() -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in GROUP_VARIABLES and not name.startswith("TORCHELASTIC_")
    }
    environment = {**own, **dict.fromkeys(ONE_THREAD, "1")}
    # Makes torch count devices without initialising CUDA, so that a module which asks for them at import can be loaded
    # before the fork.
    environment.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if not any(name in os.environ for name in WAIT_POLICIES):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return environment
