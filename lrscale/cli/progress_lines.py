"""Progress for log files: plain lines, few of them, each complete in itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO, final

from typing_extensions import override

from lrscale.cli.progress_board import NO_OUTLOOK, NO_TASK, Outlook, ProgressBoard, outcome
from lrscale.cli.text import clock as stamp
from lrscale.cli.text import count, number, seconds
from lrscale.launch.progress import AbstractProgress
from lrscale.store import Trial, TrialSpec
from lrscale.units import Layout

HEARTBEAT = 30.0
"""Seconds of silence after which a running trial is worth a line: often enough to see that it lives, and a night's log
stays under two thousand lines."""


@final
class LineProgress(AbstractProgress):
    """Writes one line per finished trial, and a heartbeat when nothing finishes.

    Parameters
    ----------
    stream : text stream
        Usually stderr; every line is flushed, so that a killed job leaves what it said.
    experiments : Outlook, optional
        As for `ProgressBoard`.
    task : mapping, optional
        As for `ProgressBoard`.
    clock : callable, optional
        Seconds, monotonic. Default ``time.monotonic``.
    """

    def __init__(
        self,
        stream: TextIO,
        experiments: Outlook = NO_OUTLOOK,
        *,
        task: Mapping[str, Any] = NO_TASK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._board = ProgressBoard(experiments, task=task, clock=clock)
        self._spoke_at = clock()

    @override
    def started(self, experiment: str, planned: int, reused: int) -> None:
        again = experiment == self._board.experiment and self._board.done > 0
        self._board.start(experiment, planned, reused)
        if again:
            self._say(f"{self._board.position()}: {count(planned, 'further trial')}")
        else:
            self._say(f"{self._board.position()}: {count(planned, 'trial')} to run, {self._board.reused} reused")

    @override
    def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
        self._board.begin(spec, layout)

    @override
    def trial_progress(self, trial_id: str, step: int, horizon: int, loss: float | None) -> None:
        self._board.advance(trial_id, step, loss)
        trial = self._board.running.get(trial_id)
        if trial is None or self._board.clock() - self._spoke_at < HEARTBEAT:
            return
        self._say(
            f"{self._board.experiment}: {self._board.describe(trial.spec)}: step {step} of {horizon}, "
            f"training loss {number(trial.loss, 4)}{self._eta()}"
        )

    @override
    def trial_finished(self, trial: Trial) -> None:
        duration = self._board.end(trial)
        took = "" if duration is None else f" in {seconds(duration)}"
        self._say(
            f"{self._board.experiment} {self._board.done}/{self._board.planned}: {self._board.describe(trial.spec)}: "
            f"{outcome(trial)}{took}{self._eta()}"
        )

    @override
    def note(self, text: str) -> None:
        self._say(text)

    def _eta(self) -> str:
        left = self._board.eta()
        return f"; {left}" if left else ""

    def _say(self, text: str) -> None:
        self._spoke_at = self._board.clock()
        print(f"[{stamp(self._board.elapsed)}] {text}", file=self._stream, flush=True)
