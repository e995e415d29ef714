"""How far a running trial is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from lrscale.launch.base import TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.store import TrialSpec
from lrscale.store.trajectory import LINES_NAME

TAIL_BYTES = 4096
"""More than a dozen rows."""
TELL = 1.0
"""Seconds between looks at a trial."""
SILENCE = 600.0
"""Seconds without a new step after which the user is told of a trial: it may hang, or its steps are that long."""


@final
class HowFar:
    """What is told of one running trial, once a second at most.

    Parameters
    ----------
    request : TrialRequest
        The trial, which has just begun.
    clock : callable, optional
        Seconds, monotonic. Default ``time.monotonic``.
    """

    def __init__(self, request: TrialRequest, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._request = request
        self._clock = clock
        self._told_at = self._stepped_at = clock()
        self._step = 0
        self._silence_told = False

    def tell(self, progress: AbstractProgress) -> None:
        """Tell the step that the trial is at, and say once that it makes none."""
        now = self._clock()
        if now - self._told_at < TELL:
            return
        self._told_at = now
        row, spec = last_row(self._request.folder), self._request.spec
        if row is not None:
            progress.trial_progress(spec.trial_id, place_of(row, spec), spec.horizon, row.get("train_loss"))
        step = 0 if row is None else int(row["step"])
        if step != self._step:
            self._step, self._stepped_at, self._silence_told = step, now, False
        elif now - self._stepped_at > SILENCE and not self._silence_told:
            self._silence_told = True
            progress.note(
                f"trial {spec.trial_id} has made no step for {SILENCE / 60:.0f} minutes (the last was {step}); "
                "if it hangs, layout.timeout ends such trials"
            )


def last_row(folder: Path) -> dict[str, Any] | None:
    """Return the last whole row of a trial's trajectory, or None while there is none."""
    try:
        with (folder / LINES_NAME).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            lines = stream.read().split(b"\n")
    except OSError:
        return None
    # The piece after the last newline may be torn; the first piece too when reading began in the middle.
    whole = lines[1 if size > TAIL_BYTES else 0 : -1]
    row: dict[str, Any] | None = json.loads(whole[-1]) if whole else None
    return row


def place_of(row: Mapping[str, Any], spec: TrialSpec) -> int:
    """Return how far a row is, in the base steps that the trial's horizon counts."""
    return int(row["examples"]) // spec.global_batch_size
