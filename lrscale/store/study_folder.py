"""The study folder: trials filed under what determines their result, and what was decided when."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, final

from lrscale.errors import StudyError
from lrscale.store.files import read_json, to_json, write_atomically
from lrscale.store.lock import hold
from lrscale.store.record import TrialRecord
from lrscale.store.spec import TrialSpec
from lrscale.store.trajectory import PARQUET_NAME, Trajectory, pack_trajectory, read_trajectory

T = TypeVar("T")

STUDY_VERSION = 1
"""Schema version of the study folder, kept in plan.json."""


@final
class StudyFolder:
    """Where one study lives.

    Reading needs nothing but the folder. Writing needs the lock, which one process holds at a time and which the
    operating system gives back when that process dies.

    Parameters
    ----------
    path : Path
        The folder; it is made on first writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plan_path(self) -> Path:
        """The resolved recipe and the log of decisions."""
        return self.path / "plan.json"

    def trial_path(self, trial_id: str) -> Path:
        """Folder of one trial.

        Raises
        ------
        StudyError
            When the id would lead out of the study, as one in a damaged or forged file may.
        """
        if trial_id in ("", ".", "..") or Path(trial_id).name != trial_id:
            raise StudyError(f"{trial_id!r} is no trial of {self.path}: an id is the name of a folder below trials")
        return self.path / "trials" / trial_id

    def exists(self) -> bool:
        """Whether a study was begun here."""
        return self.plan_path.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing.

        Raises
        ------
        StudyError
            When another process holds it, naming that process, or when the folder cannot be written.
        """
        with hold(self.path):
            # Left by a process that was killed in the middle of a write; whoever holds the lock is alone.
            for partial in self.path.glob(".*.partial"):
                partial.unlink(missing_ok=True)
            yield

    def read_plan(self) -> dict[str, Any]:
        """Return plan.json.

        Raises
        ------
        StudyError
            When there is no study here, or one of a newer version.
        """
        if not self.exists():
            raise StudyError(f"{self.path} is not a study folder: it has no plan.json", hint="start one: lrscale run")
        plan: dict[str, Any] = read_json(self.plan_path)
        if not isinstance(plan, dict):
            raise StudyError(f"{self.plan_path} is not a plan", hint="choose another --study")
        version = plan.get("schema_version", 0)
        if not isinstance(version, int) or version > STUDY_VERSION:
            raise StudyError(
                f"study folder {self.path} has version {version}; the newest this lrscale reads is {STUDY_VERSION}",
                hint="upgrade lrscale",
            )
        return plan

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write plan.json whole."""
        write_atomically(self.plan_path, to_json({"schema_version": STUDY_VERSION, **plan}, indent=1))

    def begin_trial(self, spec: TrialSpec, *, again: bool = False) -> Path:
        """Make an empty folder for a trial, with its spec; what an interrupted or lost attempt left is removed.

        Parameters
        ----------
        spec : TrialSpec
        again : bool, optional
            Whether one that is finished may run once more, for the states that others branch off from. Its record stays
            until there is another. Default False.

        Raises
        ------
        StudyError
            When the trial is finished for good, or the folder cannot be written.
        """
        folder = self.trial_path(spec.trial_id)
        earlier = self.record(spec.trial_id)
        if earlier is not None and again:
            return folder
        if earlier is not None and not earlier.retryable:
            raise StudyError(
                f"trial {spec.trial_id} is finished ({earlier.status}) and is never run again",
                hint=f"remove {folder} to have it run again",
            )
        with _writing(folder):
            if folder.exists():
                # The record goes first: a kill in the middle must leave no record without its spec.
                (folder / "record.json").unlink(missing_ok=True)
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        write_atomically(folder / "spec.json", to_json(spec.to_dict(), indent=1))
        return folder

    def withdraw_trial(self, trial_id: str) -> None:
        """Remove the folder of a trial that was begun and did not start; a finished one is left as it is."""
        if self.record(trial_id) is None:
            shutil.rmtree(self.trial_path(trial_id), ignore_errors=True)

    def finish_trial(self, record: TrialRecord) -> None:
        """Pack the trajectory, then publish the record; from then on the trial is never touched again.

        Raises
        ------
        StudyError
            When the disk is full or the folder cannot be written; the trial then counts as not finished.
        """
        folder = self.trial_path(record.trial_id)
        with _writing(folder):
            pack_trajectory(folder)
        write_atomically(folder / "record.json", to_json(record.to_dict(), indent=1))

    def spec(self, trial_id: str) -> TrialSpec:
        """Return the spec of a trial."""
        return _read(TrialSpec.from_dict, self.trial_path(trial_id) / "spec.json")

    def record(self, trial_id: str) -> TrialRecord | None:
        """Return the record of a trial, or None while it has none."""
        path = self.trial_path(trial_id) / "record.json"
        record = _read(TrialRecord.from_dict, path) if path.exists() else None
        if record is not None and record.trial_id != trial_id:
            raise StudyError(
                f"{path} is the record of another trial, {record.trial_id!r}",
                hint=f"remove {path.parent} to have the trial run again",
            )
        return record

    def trajectory(self, trial_id: str) -> Trajectory:
        """Return what a trial has written so far."""
        return read_trajectory(self.trial_path(trial_id))

    def trial_ids(self) -> list[str]:
        """Return the trials that were begun, in order of their names."""
        folder = self.path / "trials"
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []

    def records(self) -> dict[str, TrialRecord]:
        """Return the records of all finished trials by id."""
        found = {trial_id: self.record(trial_id) for trial_id in self.trial_ids()}
        return {trial_id: record for trial_id, record in found.items() if record is not None}

    def has_packed(self, trial_id: str) -> bool:
        """Whether the trajectory of a trial is packed."""
        return (self.trial_path(trial_id) / PARQUET_NAME).exists()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a message with a remedy."""
    try:
        yield
    except OSError as error:
        for partial in folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        raise StudyError(
            f"cannot write {folder}: {error.strerror or error}", hint="free space or choose another --study"
        ) from error


def _read(from_dict: Callable[[Mapping[str, Any]], T], path: Path) -> T:
    plain = read_json(path)
    try:
        return from_dict(plain)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Valid JSON that is not what was written here: edited by hand, or of another program.
        raise StudyError(
            f"{path} is damaged: {type(error).__name__} {error}",
            hint=f"remove {path.parent} to have the trial run again",
        ) from error
