"""This machine's devices: fresh processes for every trial, forked from a server that has torch loaded."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, final

from lrscale.errors import TaskError
from lrscale.launch.base import LAUNCHERS, AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.devices import cpu_count, device_slots, free_port, resolve_accelerator
from lrscale.launch.forkserver import Forkserver
from lrscale.launch.outcome import make_record, read_outcomes, task_error
from lrscale.launch.progress import AbstractProgress
from lrscale.launch.tail import last_row
from lrscale.store import TrialRecord
from lrscale.store.files import to_json, write_atomically
from lrscale.units import Layout

GRACE = 5.0
"""Seconds that the other ranks get to end by themselves once one has failed; a collective would block them for ever."""
TICK = 0.1
"""Seconds between looks at time limits while nothing is heard."""
ATTEMPTS = 2
"""A trial whose processes were lost is run once more; what its own code does is not retried."""
ENTRY = "lrscale.training.rank"
"""Module whose ``main(job_path)`` a rank runs."""


@final
@dataclass(slots=True)
class _Running:
    request: TrialRequest
    key: str
    slot: int
    started: float
    attempt: int
    codes: dict[int, int] = field(default_factory=dict)
    failed_at: float | None = None
    timed_out: bool = False
    told_at: float = 0.0


@final
@LAUNCHERS.register("local")
class LocalLauncher(AbstractLauncher):
    """Runs trials on this machine.

    Parameters
    ----------
    settings : LaunchSettings
        The task's import paths, devices and limits.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        self._scratch: Path | None = None
        self._server: Forkserver | None = None
        self._served = 0

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
        """Run trials side by side as far as the slots go; see `AbstractLauncher.run`."""
        waiting = deque((request, 1) for request in requests)
        if not waiting:
            return
        accelerator = resolve_accelerator(self._settings.accelerator)
        devices = max(request.layout.devices for request in requests)
        slots = device_slots(accelerator, devices, self._settings.trials_at_once)
        free = deque(range(len(slots)))
        running: dict[str, _Running] = {}
        try:
            while waiting or running:
                server = self._ready_server(progress)
                while waiting and free:
                    request, attempt = waiting.popleft()
                    slot = free.popleft()
                    trial = self._start(server, request, slot, slots[slot], accelerator, attempt)
                    running[trial.key] = trial
                    if attempt == 1:
                        progress.trial_started(request.spec, request.layout)
                for event in server.events(TICK):
                    self._note(event, running)
                for trial in list(running.values()):
                    self._watch(server, trial, progress)
                    if len(trial.codes) < trial.request.layout.world_size:
                        continue
                    del running[trial.key]
                    free.append(trial.slot)
                    record = self._finish(trial)
                    if record.retryable and trial.attempt < ATTEMPTS:
                        progress.note(f"trial {record.trial_id}: {record.reason}; it is run once more")
                        waiting.appendleft((trial.request, trial.attempt + 1))
                    else:
                        yield record
        finally:
            if self._server is not None:
                for key in running:
                    self._server.send({"op": "kill", "key": key})

    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Build the task in one fresh process; see `AbstractLauncher.inspect`."""
        server = self._ready_server(AbstractProgress())
        folder.mkdir(parents=True, exist_ok=True)
        accelerator = resolve_accelerator(self._settings.accelerator)
        key = f"inspect-{self._served}"
        self._start_ranks(server, key, {**job, "purpose": "inspect"}, layout, folder, (), accelerator)
        codes: dict[int, int] = {}
        while len(codes) < layout.world_size:
            for event in server.events(TICK):
                if event["event"] == "exited" and event["key"] == key:
                    codes[event["rank"]] = event["code"]
                elif event["event"] == "lost":
                    codes = dict.fromkeys(range(layout.world_size), -9)
        outcomes = read_outcomes(folder)
        error = task_error(outcomes)
        if error is not None:
            raise error
        if 0 not in outcomes or outcomes[0]["kind"] != "result":
            reason = outcomes.get(0, {}).get("fields", {}).get("reason") or "the process ended without a result"
            raise TaskError(f"the task cannot be built: {reason}", hint=f"its log is {folder / 'rank-0.log'}")
        return dict(outcomes[0]["fields"])

    def _ready_server(self, progress: AbstractProgress) -> Forkserver:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="lrscale-"))
        if self._server is None or not self._server.alive:
            if self._server is not None:
                self._server.stop()
            settings = self._settings
            paths = tuple(str((settings.root / path).resolve()) for path in settings.import_paths)
            self._server = Forkserver(self._scratch / "server.log", settings.preload, paths)
            for note in self._server.start():
                progress.note(note)
        return self._server

    def _start(
        self,
        server: Forkserver,
        request: TrialRequest,
        slot: int,
        gpus: tuple[str, ...],
        accelerator: str,
        attempt: int,
    ) -> _Running:
        for stale in (*request.folder.glob("outcome-*.json"), *request.folder.glob("trajectory.*")):
            stale.unlink()
        self._served += 1
        key = f"{request.spec.trial_id}-{attempt}-{self._served}"
        job = {"spec": request.spec.to_dict(), "purpose": "train"}
        self._start_ranks(server, key, job, request.layout, request.folder, gpus, accelerator)
        return _Running(request=request, key=key, slot=slot, started=time.monotonic(), attempt=attempt)

    def _start_ranks(
        self,
        server: Forkserver,
        key: str,
        job: Mapping[str, Any],
        layout: Layout,
        folder: Path,
        gpus: tuple[str, ...],
        accelerator: str,
    ) -> None:
        assert self._scratch is not None
        settings = self._settings
        self._served += 1
        world = layout.world_size
        threads = max(1, cpu_count() // (world * settings.trials_at_once))
        job_path = folder / "job.json"
        whole_job = {
            **job,
            "root": str(settings.root.resolve()),
            "import_paths": list(settings.import_paths),
            "layout": _plain(layout),
            "folder": str(folder.resolve()),
            "accelerator": accelerator,
            "rendezvous": str(self._scratch / f"rendezvous-{self._served}"),
            "threads": threads,
        }
        write_atomically(job_path, to_json(whole_job))
        # torchelastic's variables come first in Lightning's search, also inside a SLURM allocation.
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "GROUP_RANK": "0",
            "GROUP_WORLD_SIZE": "1",
            "TORCHELASTIC_RUN_ID": key,
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": "0",
            "OMP_NUM_THREADS": str(threads),
            **(settings.environment or {}),
        }
        if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
            # Without it gloo resolves the host's name, which hangs or fails on machines whose name has no address.
            shared["GLOO_SOCKET_IFNAME"] = "lo"
        if gpus:
            shared["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        for rank in range(world):
            server.send(
                {
                    "op": "start",
                    "key": key,
                    "rank": rank,
                    "job": str(job_path),
                    "log": str(folder / f"rank-{rank}.log"),
                    "entry": ENTRY,
                    "env": {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                }
            )

    def _note(self, event: Mapping[str, Any], running: Mapping[str, _Running]) -> None:
        if event["event"] == "lost":
            # The kernel ends the ranks with their server.
            for trial in running.values():
                missing = set(range(trial.request.layout.world_size)) - set(trial.codes)
                trial.codes.update(dict.fromkeys(missing, -9))
        elif event["event"] == "exited" and event["key"] in running:
            trial = running[event["key"]]
            trial.codes[event["rank"]] = event["code"]
            if trial.failed_at is None:
                trial.failed_at = time.monotonic()

    def _watch(self, server: Forkserver, trial: _Running, progress: AbstractProgress) -> None:
        now = time.monotonic()
        limit = self._settings.timeout
        if limit is not None and now - trial.started > limit and not trial.timed_out:
            trial.timed_out = True
            server.send({"op": "kill", "key": trial.key})
        if trial.failed_at is not None and now - trial.failed_at > GRACE:
            server.send({"op": "kill", "key": trial.key})
            trial.failed_at = now
        if now - trial.told_at > 1:
            trial.told_at = now
            row = last_row(trial.request.folder)
            if row is not None:
                spec = trial.request.spec
                progress.trial_progress(spec.trial_id, int(row["step"]), spec.horizon, row.get("train_loss"))

    def _finish(self, trial: _Running) -> TrialRecord:
        folder = trial.request.folder
        error = task_error(read_outcomes(folder))
        if error is not None:
            raise error
        return make_record(
            trial.request.spec.trial_id,
            folder,
            trial.request.layout,
            trial.codes,
            seconds=time.monotonic() - trial.started,
            timed_out=trial.timed_out,
        )


def _plain(layout: Layout) -> dict[str, int]:
    return {
        "per_device_batch_size": layout.per_device_batch_size,
        "accumulate": layout.accumulate,
        "devices": layout.devices,
        "num_nodes": layout.num_nodes,
    }
