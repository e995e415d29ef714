"""Where the states of a trial lie that others branch off from, and what is said about each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from lrscale.store.spec import BranchPoint

STATES = "states"
"""Folder of them in that of the trial, one folder a position."""
ABOUT = "about.json"
"""What is said about a state: its place in training, in values that need no torch to be read."""


def state_path(trials: Path, point: BranchPoint) -> Path:
    """Return the folder of a state, below the folder of the trials."""
    return trials / point.trial_id / STATES / str(point.position)


def partial_path(state: Path) -> Path:
    """Return the folder in which a state is written; it is renamed once it is whole."""
    return state.with_name(f".{state.name}.partial")


def publish_state(state: Path) -> None:
    """Give a state that is written its name, after which it counts as whole.

    Its files are on the disk before: a power cut leaves a whole state or none.
    """
    partial = partial_path(state)
    for entry in (*partial.iterdir(), partial):
        handle = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    shutil.rmtree(state, ignore_errors=True)
    partial.rename(state)


def has_state(trials: Path, point: BranchPoint) -> bool:
    """Whether the state of a branch point is there, whole."""
    return (state_path(trials, point) / ABOUT).exists()


def drop_states(trials: Path, trial_id: str, keep: Collection[int] = ()) -> None:
    """Remove the states of a trial, but for some positions."""
    folder = trials / trial_id / STATES
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if not entry.name.isdigit() or int(entry.name) not in keep:
            shutil.rmtree(entry, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()
