"""A trial that Ray Tune has asked for: an ordinary trial of the launcher, whose validations are reported to Tune."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.base import LaunchSettings, TrialRequest
from lrscale.launch.outcome import log_tail
from lrscale.launch.progress import SilentProgress
from lrscale.launch.ray.launcher import RayLauncher
from lrscale.ray_tune import LOSS, TIME, Space
from lrscale.store import StudyFolder, TrialRecord, TrialSpec
from lrscale.store.files import read_json, to_json, write_atomically
from lrscale.store.trajectory import LINES_NAME, read_trajectory
from lrscale.units import Layout

Take = Callable[[TrialSpec, TrialRecord], None]
"""Told of each trial that has ended and has no record yet."""
ENDED = "ended.json"
"""What the process of a trial leaves in its folder for the driver: its record, or the error that ends the study."""
LOOK = 0.3
"""Seconds between looks at the trajectory."""
LEARNED_NOTHING = 1e3
"""Loss of a trial that diverged before it had any."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """What the trials of a search have in common, for the processes that run them."""

    study: Path
    space: Space
    specs: Mapping[int, TrialSpec]
    """By batch size, of any LR."""
    layouts: Mapping[int, Layout]
    instruments: Mapping[int, Mapping[str, Mapping[str, Any]]]
    """Those that ride along, by batch size."""
    places: Mapping[int, Mapping[int, int]]
    """By batch size: step of each validation that is reported, by its number from 1. The last is the horizon."""
    claims: Path
    """Folder where a setting that is asked for twice is waited for instead of being run twice at once."""
    settings: LaunchSettings
    keeps_place: bool
    """Whether the scheduler pauses trials, which must know afterwards what they have reported."""

    def spec(self, config: Mapping[str, float]) -> TrialSpec:
        """Return the spec of a configuration."""
        lr, size = self.space.decode(config)
        return dataclasses.replace(self.specs[size], peak_lr=lr)


@final
class TunedTrial:
    """What Ray Tune calls for each trial, in a process of the cluster.

    Parameters
    ----------
    plan : TrialPlan
        What it has in common with the others.
    """

    # Ray files a trainable under its name.
    __name__ = "trial"

    def __init__(self, plan: TrialPlan) -> None:
        self.plan = plan

    def __call__(self, config: Mapping[str, Any]) -> None:
        """Run the trial of a configuration, or read it where the study has it."""
        from ray import tune

        spec, store = self.plan.spec(config), StudyFolder(self.plan.study)
        report = _Reports(self.plan, spec)
        if await_turn(store, self.plan.claims, spec, tune.get_context().get_trial_id()):
            self._run(store, spec, report)
            return
        record = store.record(spec.trial_id)
        assert record is not None
        report.tell(losses_so_far(store.trial_path(spec.trial_id)), last=True)
        report.conclude(record)

    def _run(self, store: StudyFolder, spec: TrialSpec, report: _Reports) -> None:
        size = spec.global_batch_size
        request = TrialRequest(
            spec=spec,
            layout=self.plan.layouts[size],
            folder=store.begin_trial(spec),
            instruments=self.plan.instruments[size],
        )
        work, losses = Work(self.plan.settings, request), NewLosses(request.folder)
        work.start()
        while work.is_alive():
            work.join(LOOK)
            # The last validation is told when the record is there: the scheduler may end the process right then.
            report.tell(losses.look(), last=False)
        write_atomically(request.folder / ENDED, to_json(work.outcome()))
        if work.record is not None:
            report.tell(losses_so_far(request.folder), last=True)
            report.conclude(work.record)


def keep_ended(store: StudyFolder, trial_id: str, take: Take) -> bool:
    """Hand on the record that the process of a trial has left, and say whether there was one.

    Raises
    ------
    StudyError
        When it has left an error, which ends the study.
    """
    folder = store.trial_path(trial_id)
    record = read_ended(folder)
    if record is None:
        return False
    earlier = store.record(trial_id)
    if earlier is None or earlier.retryable:
        take(store.spec(trial_id), record)
    (folder / ENDED).unlink()
    return True


def keep_all_ended(store: StudyFolder, take: Take) -> None:
    """Hand on what processes have left whose driver was killed before it heard of it; see `keep_ended`."""
    for trial_id in store.trial_ids():
        keep_ended(store, trial_id, take)


def await_turn(store: StudyFolder, claims: Path, spec: TrialSpec, name: str) -> bool:
    """Whether a trial of Tune is to run a spec; False when the study has it, perhaps by another trial of this search.

    Parameters
    ----------
    store : StudyFolder
    claims : Path
        Folder of the search's claims.
    spec : TrialSpec
    name : str
        Tune's name of the trial that asks.
    """
    while not is_finished(store, spec):
        if claimed(claims, spec, name):
            return True
        # Another one is at it, and the driver writes its record. Where it is lost, the driver takes its claim away.
        time.sleep(LOOK)
    return False


def keep_lost(store: StudyFolder, claims: Path, name: str, layouts: Mapping[int, Layout], take: Take) -> None:
    """Keep what a trial of Tune was at that was lost with its process, and let others that wait for it have it.

    Parameters
    ----------
    store : StudyFolder
    claims : Path
        Folder of the search's claims.
    name : str
        Tune's name of the trial.
    layouts : mapping of int to Layout
        By batch size.
    take : callable
        Told of the record.
    """
    for claim in sorted(claims.glob("*")):
        if claim.read_text(encoding="utf-8") != name:
            continue
        folder = store.trial_path(claim.name)
        if (folder / "spec.json").exists() and not keep_ended(store, claim.name, take):
            earlier, spec = store.record(claim.name), store.spec(claim.name)
            if earlier is None:
                record = TrialRecord(
                    trial_id=claim.name,
                    status="crashed",
                    reason="the process that watches over the trial was lost, with what it had begun",
                    layout=layouts[spec.global_batch_size],
                    retryable=True,
                    log_tail=log_tail(folder, 0),
                )
                take(spec, record)
        release(store, claims, claim.name)


def release(store: StudyFolder, claims: Path, trial_id: str) -> None:
    """Take away the claim on a trial that did not end, so that others of the search which wait for it may run it."""
    record = store.record(trial_id)
    if record is None or record.retryable:
        (claims / trial_id).unlink(missing_ok=True)


def claimed(claims: Path, spec: TrialSpec, name: str) -> bool:
    """Whether a trial of Tune may run a spec: no other one of this search is at it."""
    claims.mkdir(parents=True, exist_ok=True)
    claim = claims / spec.trial_id
    try:
        with claim.open("x", encoding="utf-8") as stream:
            stream.write(name)
    except FileExistsError:
        return claim.read_text(encoding="utf-8") == name
    return True


@final
class Work(threading.Thread):
    """Runs the trial, with its second attempt, beside the thread that Tune waits for."""

    def __init__(self, settings: LaunchSettings, request: TrialRequest) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._request = request
        self.record: TrialRecord | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run it; the outcome is told by `outcome`."""
        try:
            with RayLauncher(self._settings, checked=True) as launcher:
                (self.record,) = launcher.run([self._request], SilentProgress())
        except BaseException as error:  # told to the driver, which raises it there
            self.error = error

    def outcome(self) -> dict[str, Any]:
        """Return what the driver is told."""
        if self.record is not None:
            return {"record": self.record.to_dict()}
        error = self.error
        if isinstance(error, LrscaleError):
            return {"error": {"message": error.message, "hint": error.hint}}
        return {"error": {"message": f"a trial could not be run: {type(error).__name__}: {error}", "hint": None}}


@final
class _Reports:
    """What Tune has been told of a trial, also before it was paused."""

    def __init__(self, plan: TrialPlan, spec: TrialSpec) -> None:
        self._plan = plan
        self._places = plan.places[spec.global_batch_size]
        self._told = self._before()
        self._worst: float | None = None

    def tell(self, losses: Mapping[int, float], *, last: bool) -> None:
        """Report the validations that are new, by their steps; the one at the horizon only as the `last`."""
        for number in range(self._told + 1, len(self._places) + (1 if last else 0)):
            loss = losses.get(self._places[number])
            if loss is None or not math.isfinite(loss):
                return
            self._report(number, loss)

    def conclude(self, record: TrialRecord) -> None:
        """Report how a trial ended whose last validation is none that can be compared."""
        if self._told >= len(self._places):
            return
        if record.status == "completed" and record.final_loss is not None:
            self._report(len(self._places), record.final_loss)
        elif record.status == "diverged":
            seen = [loss for loss in (self._worst, record.initial_loss) if loss is not None and math.isfinite(loss)]
            # As good as one that has learned nothing: libraries take no infinity.
            self._report(self._told + 1, max(seen, default=LEARNED_NOTHING))

    def _report(self, number: int, loss: float) -> None:
        from ray import tune

        self._told = number
        self._worst = loss if self._worst is None else max(self._worst, loss)
        result = {LOSS: loss, TIME: number, "step": self._places[number]}
        if not self._plan.keeps_place:
            tune.report(result)
            return
        with tempfile.TemporaryDirectory(prefix="lrscale-") as folder:
            Path(folder, "told").write_text(str(number), encoding="utf-8")
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))

    def _before(self) -> int:
        from ray import tune

        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            return 0
        with checkpoint.as_directory() as folder:
            return int(Path(folder, "told").read_text(encoding="utf-8"))


@final
class NewLosses:
    """The validation losses of a trial that runs; each look reads only what has been written since the last one.

    Parameters
    ----------
    folder : Path
        Of the trial.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LINES_NAME
        self._read = 0
        self._losses: dict[int, float] = {}

    def look(self) -> dict[int, float]:
        """Return all losses so far, by step."""
        try:
            with self._path.open("rb") as stream:
                if stream.seek(0, os.SEEK_END) < self._read:
                    # Another attempt has begun; it comes to the same losses.
                    self._read = 0
                stream.seek(self._read)
                whole, newline, _ = stream.read().rpartition(b"\n")
        except OSError:
            return self._losses
        self._read += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            row = json.loads(line) if b'"val_loss"' in line else {}
            if row.get("val_loss") is not None:
                self._losses[int(row["step"])] = float(row["val_loss"])
        return self._losses


def losses_so_far(folder: Path) -> dict[int, float]:
    """Return the validation losses that a trial has written, by step."""
    trajectory = read_trajectory(folder)
    if "val_loss" not in trajectory.columns:
        return {}
    steps, losses = trajectory.points("val_loss")
    return {int(step): float(loss) for step, loss in zip(steps, losses, strict=True)}


def read_ended(folder: Path) -> TrialRecord | None:
    """Return the record that the process of a trial has left, or None where it left none.

    Raises
    ------
    StudyError
        When it has left an error, which ends the study.
    """
    path = folder / ENDED
    if not path.exists():
        return None
    told = read_json(path)
    if "error" in told:
        path.unlink()
        raise StudyError(told["error"]["message"], hint=told["error"]["hint"])
    return TrialRecord.from_dict(told["record"])


def is_finished(store: StudyFolder, spec: TrialSpec) -> bool:
    """Whether the study has a trial for good."""
    record = store.record(spec.trial_id)
    return record is not None and not record.retryable
