"""Runs real trials for tests: one forkserver for the whole session, whichever folders are tested."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress, TrialRequest
from lrscale.schedules.warmup import WarmupShape
from lrscale.store import ScheduleSpec, StudyFolder, Trajectory, TrialRecord, TrialSpec
from lrscale.units import Layout

TESTS = Path(__file__).resolve().parent.parent
PRELOADED = (
    "trial_modules",
    "layout_modules",
    "branch_modules",
    "stranger_modules",
    "lightning.pytorch.cli",
    "pytorch_lightning.cli",
)


@dataclass(frozen=True)
class Ran:
    """A finished trial."""

    spec: TrialSpec
    record: TrialRecord
    trajectory: Trajectory
    folder: Path

    @property
    def train_losses(self) -> list[float]:
        return [float(value) for value in self.trajectory.points("train_loss")[1]]

    @property
    def lrs(self) -> list[float]:
        return [float(value) for value in self.trajectory.points("lr")[1]]

    @property
    def validation_steps(self) -> list[int]:
        return [int(step) for step in self.trajectory.points("val_loss")[0]]

    def warned(self, words: str) -> bool:
        return any(words in sentence for sentence in self.record.warnings)


class Trials:
    """A launcher that tests share; each call has a study folder of its own."""

    def __init__(self, accelerator: str = "cpu", trials_at_once: int = 2) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="lrscale-tests-"))
        self.studies = 0
        self.temporary = self.root / "tmp"
        self.temporary.mkdir()
        self.launcher = LocalLauncher(
            LaunchSettings(
                root=TESTS,
                import_paths=("training", "strangers", "gpu"),
                preload=PRELOADED,
                accelerator=accelerator,
                trials_at_once=trials_at_once,
                timeout=240.0,
                environment={"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)},
            )
        )
        self.progress = SilentProgress()

    def close(self) -> None:
        self.launcher.__exit__(None, None, None)
        shutil.rmtree(self.root, ignore_errors=True)

    @contextlib.contextmanager
    def timeout(self, seconds: float) -> Iterator[None]:
        """Give trials less time; a second launcher would cost a second server."""
        before = self.launcher._settings
        self.launcher._settings = dataclasses.replace(before, timeout=seconds)
        try:
            yield
        finally:
            self.launcher._settings = before

    def new_study(self) -> StudyFolder:
        """Return a study folder that nothing lies in."""
        self.studies += 1
        return StudyFolder(self.root / f"study-{self.studies}")

    def run(
        self,
        *wanted: tuple[TrialSpec, Layout],
        instruments: Mapping[str, Mapping[str, Any]] | None = None,
        study: StudyFolder | None = None,
        keep: tuple[int, ...] = (),
    ) -> list[Ran]:
        """Run trials, with instruments that ride on them, and return them in the order in which they were asked for."""
        study = study or self.new_study()
        requests, seen = [], set()
        for spec, layout in wanted:
            assert spec.trial_id not in seen, "the same trial twice in one call would share a folder"
            seen.add(spec.trial_id)
            folder = study.begin_trial(spec)
            requests.append(
                TrialRequest(spec=spec, layout=layout, folder=folder, instruments=instruments or {}, keep=keep)
            )
        records = {}
        for record in self.launcher.run(requests, self.progress):
            study.finish_trial(record)
            records[record.trial_id] = record
        return [
            Ran(
                spec=request.spec,
                record=records[request.spec.trial_id],
                trajectory=study.trajectory(request.spec.trial_id),
                folder=request.folder,
            )
            for request in requests
        ]

    def one(
        self,
        spec: TrialSpec,
        layout: Layout | None = None,
        *,
        instruments: Mapping[str, Mapping[str, Any]] | None = None,
        study: StudyFolder | None = None,
        keep: tuple[int, ...] = (),
    ) -> Ran:
        own = layout or Layout(per_device_batch_size=spec.global_batch_size)
        return self.run((spec, own), instruments=instruments, study=study, keep=keep)[0]

    def inspect(self, task: Mapping[str, Any], batch_size: int = 8) -> dict[str, Any]:
        spec = make_spec(task=task, batch=batch_size)
        folder = Path(tempfile.mkdtemp(prefix="inspect-", dir=self.root))
        return self.launcher.inspect({"spec": spec.to_dict()}, Layout(per_device_batch_size=batch_size), folder)


def make_task(
    model: Mapping[str, Any] | str | None = None,
    data: Mapping[str, Any] | str | None = "trial_modules.Points",
    *,
    init: Mapping[str, Any] | None = None,
    data_init: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Return a resolved task, as a recipe would give it."""
    node: dict[str, Any] = {
        "model": {"class_path": model or "trial_modules.Probe", "init_args": dict(init or {})},
        "trainer": dict(trainer or {}),
        **others,
    }
    if data is not None:
        node["data"] = {"class_path": data, "init_args": dict(data_init or {})}
    return node


def make_spec(
    task: Mapping[str, Any] | None = None,
    *,
    lr: float = 0.05,
    batch: int = 8,
    horizon: int = 12,
    seed: int = 0,
    schedule: str = "constant",
    warmup: int = 0,
    warmup_shape: WarmupShape = "linear",
    settings: Mapping[str, Any] | None = None,
    every: int | None = 0,
    stop: bool = True,
) -> TrialSpec:
    """Return a short trial's spec."""
    return TrialSpec(
        task=dict(task or make_task()),
        schedule=ScheduleSpec(
            name=schedule, warmup_steps=warmup, warmup_shape=warmup_shape, settings=dict(settings or {})
        ),
        peak_lr=lr,
        global_batch_size=batch,
        horizon=horizon,
        seed=seed,
        validate_every=every,
        stop_on_divergence=stop,
    )


def read_lines(path: Path) -> list[Any]:
    """Return the JSON lines of a file that a module wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


_SHARED: list[Trials] = []


def shared() -> Trials:
    """Return the session's trials, made at first use."""
    if not _SHARED:
        _SHARED.append(Trials())
    return _SHARED[0]


def close_shared() -> None:
    """Stop the server and remove the folder, if there are any."""
    while _SHARED:
        _SHARED.pop().close()


def as_layouts(batch: int) -> Sequence[tuple[str, Layout]]:
    """Return the four ways to form one global batch on at most two ranks with at most two forwards."""
    return (
        ("1 rank", Layout(per_device_batch_size=batch)),
        ("2 ranks", Layout(per_device_batch_size=batch // 2, devices=2)),
        ("accumulate 2", Layout(per_device_batch_size=batch // 2, accumulate=2)),
        ("2 ranks, accumulate 2", Layout(per_device_batch_size=batch // 4, accumulate=2, devices=2)),
    )
