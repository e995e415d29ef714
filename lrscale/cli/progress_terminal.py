"""Progress on a terminal: a table that redraws itself, and lines for what should stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from lrscale.cli.progress_board import NO_OUTLOOK, NO_TASK, Outlook, ProgressBoard, outcome
from lrscale.cli.text import number, seconds
from lrscale.launch.progress import AbstractProgress
from lrscale.store import Trial, TrialSpec
from lrscale.units import Layout

REFRESH_PER_SECOND = 4
SHOWN_TRIALS = 16
"""Running trials that are listed; more would push the summary off a small terminal."""


@final
class TerminalProgress(AbstractProgress):
    """Draws the running trials, and keeps a line for every trial that did not complete and every experiment that ended.

    Parameters
    ----------
    console : rich.console.Console
        Usually of stderr.
    experiments : Outlook, optional
        As for `ProgressBoard`.
    task : mapping, optional
        As for `ProgressBoard`.
    clock : callable, optional
        Seconds, monotonic. Default ``time.monotonic``.
    """

    def __init__(
        self,
        console: Console,
        experiments: Outlook = NO_OUTLOOK,
        *,
        task: Mapping[str, Any] = NO_TASK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._board = ProgressBoard(experiments, task=task, clock=clock)
        self._live: Live | None = None
        self._started_at = clock()

    @override
    def started(self, experiment: str, planned: int, reused: int) -> None:
        if experiment != self._board.experiment:
            self._conclude()
            self._started_at = self._board.clock()
        self._board.start(experiment, planned, reused)
        if self._live is None:
            # stdout carries the results and may go elsewhere; it is none of the display's business.
            self._live = Live(
                console=self._console,
                get_renderable=self.picture,
                refresh_per_second=REFRESH_PER_SECOND,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()

    @override
    def trial_started(self, spec: TrialSpec, layout: Layout) -> None:
        self._board.begin(spec, layout)

    @override
    def trial_progress(self, trial_id: str, step: int, horizon: int, loss: float | None) -> None:
        self._board.advance(trial_id, step, loss)

    @override
    def trial_finished(self, trial: Trial) -> None:
        self._board.end(trial)
        # A ramp goes on until it diverges: that is how it should end.
        expected = ("completed", "diverged") if trial.spec.schedule.name == "ramp" else ("completed",)
        if trial.record.status not in expected and trial.record.ended_by_stopper is None:
            self._keep(f"  {self._board.describe(trial.spec)}: {outcome(trial)}")

    @override
    def note(self, text: str) -> None:
        self._keep(text)

    @override
    def finished(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._conclude()
        self._board.experiment = ""

    def picture(self) -> RenderableType:
        """Return what is on the screen now."""
        board = self._board
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(board.position(), style="bold"),
            ProgressBar(total=max(1, board.planned), completed=board.done, width=24),
            Text(board.counts()),
        )
        left = Text(board.eta(), style="dim")
        if not board.running:
            return Group(head, left) if left else head
        trials = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("batch", "LR", "seed", "step", "train loss", "time"):
            trials.add_column(name, justify="right", no_wrap=True)
        trials.add_column("schedule", no_wrap=True, overflow="crop")
        # The event thread may add or end a trial while the drawing thread reads: a copy cannot change under it.
        for trial in list(board.running.values())[:SHOWN_TRIALS]:
            trials.add_row(
                str(trial.spec.global_batch_size),
                number(trial.spec.peak_lr),
                str(trial.spec.seed),
                f"{trial.step}/{trial.spec.horizon}",
                number(trial.loss, 4),
                seconds(board.clock() - trial.started_at),
                Text("ramp" if trial.spec.schedule.name == "ramp" else trial.spec.label),
            )
        return Group(head, left, trials) if left else Group(head, trials)

    def _conclude(self) -> None:
        board = self._board
        if board.experiment:
            self._keep(f"{board.position()}: {board.counts()}, {seconds(board.clock() - self._started_at)}")

    def _keep(self, text: str) -> None:
        # Text and not markup: a reason such as "expected [16, 3]" would lose its brackets.
        self._console.print(Text(text), soft_wrap=True)
