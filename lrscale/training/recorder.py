"""Follows a trial: the loss of every step over all ranks, the trajectory on disk, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, final

import torch

from lrscale.stoppers import Ended, LossWatch
from lrscale.store.trajectory import LINES_NAME
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.monitor import find_monitor, loss_of
from lrscale.training.step_clock import StepClock
from lrscale.training.step_counts import StepCounts
from lrscale.training.stop import TrialStopped

FLUSH_SECONDS = 1.0
"""Aimed time between flushes; a kill loses at most this much, or one step if that is longer."""
MOST_STEPS_A_FLUSH = 50
FINAL_SHARE = 0.1
"""Share of the last steps whose mean training loss stands for the final loss where there is no validation."""
RETURNED = "returned loss"
"""Name of the monitored loss where validation logs none and the mean of what it returns is taken."""


@final
class Recorder:
    """State of one trial on one rank.

    All ranks exchange their losses at the same steps: the number of steps until the next exchange follows from the
    mean step time over ranks, which is part of what they exchange. So a decision made on the exchanged values is the
    same on every rank, and a collective is never entered by some of them only. What is kept of a trial that is stopped
    does not depend on when the exchange came: it ends at the step that decided.

    Parameters
    ----------
    folder : Path or None
        Folder of the trial; rank 0 writes the trajectory there. None keeps it in memory only.
    rank, world_size : int
        This process and how many there are.
    horizon : int
        Optimizer steps of the trial.
    global_batch_size : int
        Examples of one step.
    watch : DivergenceWatch
        Told every loss.
    stop_on_divergence : bool
        Whether the trial ends when the watch says so.
    monitor : str or None
        The recipe's name for the compared loss.
    most_steps : int, optional
        Most steps between exchanges; 1 for trials that run into divergence on purpose, whose every step is to be on
        disk. Default 50.
    stopper : LossWatch or None, optional
        Told every validation; says when the trial ends before its horizon. Default None: never.
    counts : StepCounts or None, optional
        What the steps count for, of a trial that does not begin at 0 or whose batch grows. Default None: itself.
    """

    def __init__(
        self,
        *,
        folder: Path | None,
        rank: int,
        world_size: int,
        horizon: int,
        global_batch_size: int,
        watch: DivergenceWatch,
        stop_on_divergence: bool,
        monitor: str | None,
        most_steps: int = MOST_STEPS_A_FLUSH,
        stopper: LossWatch | None = None,
        counts: StepCounts | None = None,
    ) -> None:
        self._stream: IO[str] | None = None
        if rank == 0 and folder is not None:
            self._stream = (folder / LINES_NAME).open("a", encoding="utf-8")
        self._world_size = world_size
        self._horizon = horizon
        self._global_batch_size = global_batch_size
        self._watch = watch
        self._stop_on_divergence = stop_on_divergence
        self._asked_monitor = monitor
        self._most_steps = most_steps
        self._stopper = stopper
        self._counts = counts
        self._device = torch.device("cpu")
        self._clock = StepClock(self._device)
        self._lrs: list[float] = []
        self._pending: list[list[torch.Tensor]] = []
        self._next_flush = 1
        self._returned: list[tuple[torch.Tensor, int]] = []
        self._validation_began = 0.0
        self.validation_sizes: tuple[int, ...] | None = None
        self.began_at: float | None = None
        self.lr = 0.0
        self.monitor: str | None = None
        self.steps = 0
        self.diverged: str | None = None
        self.ended: Ended | None = None
        """Where the stopper has ended the trial, if it has."""
        self.losses: list[float | None] = []
        self.validations: list[tuple[int, float]] = []
        self.validation_seconds = 0.0
        self.notes: list[str] = []

    @property
    def step_seconds(self) -> list[float]:
        """Seconds of each step, without validation and without this recorder's own exchange."""
        return self._clock.seconds

    def begin(self, device: torch.device) -> None:
        """Start the clock."""
        self._device = device
        self._clock = StepClock(device)
        self.began_at = time.time()

    def add_step(self, losses: list[torch.Tensor]) -> None:
        """Take this rank's losses of a finished step, one a forward; exchange and write when it is time.

        Raises
        ------
        TrialStopped
            On every rank, when the loss has left for good.
        """
        self.steps += 1
        self._clock.step()
        self._lrs.append(self.lr)
        self._pending.append(losses)
        if len(self._pending) >= self._next_flush or self.steps >= self._horizon:
            self.flush()

    def flush(self) -> None:
        """Exchange the pending losses, judge them, and write them as far as the trial goes."""
        if not self._pending:
            return
        losses, mean_seconds = self._exchange()
        seconds = self._clock.settle(len(losses))
        first, lrs = self.steps - len(losses) + 1, self._lrs
        self._pending, self._lrs = [], []
        self._next_flush = max(1, min(self._most_steps, int(FLUSH_SECONDS / max(mean_seconds, 1e-6))))
        for step, at, lr, loss in zip(range(first, self.steps + 1), seconds, lrs, losses, strict=True):
            self._write(step=step, seconds=at, lr=lr, train_loss=loss)
            self.losses.append(loss)
            reason = None if loss is None else self._watch.add(loss)
            if reason is not None and self.diverged is None:
                self.diverged = reason
                if self._stop_on_divergence:
                    self.steps = step
                    break
        if self._stream is not None:
            self._stream.flush()
        if self.diverged is not None and self._stop_on_divergence:
            raise TrialStopped("diverged", self.diverged)
        self._clock.resume()

    def begin_validation(self) -> None:
        """Start the clock of a validation run, after everything before it is on disk."""
        self.flush()
        self._validation_began = time.perf_counter()
        self._returned.clear()

    def add_validation_batch(self, output: Any, index: int) -> None:
        """Keep what ``validation_step`` returned, in case nothing is logged, weighted by the size of its batch."""
        loss = loss_of(output)
        if loss is not None and loss.numel() == 1:
            sizes = self.validation_sizes
            self._returned.append((loss.detach(), sizes[index] if sizes is not None and index < len(sizes) else 1))

    def end_validation(self, logged: Mapping[str, Any]) -> None:
        """Take the monitored loss of a validation run.

        Raises
        ------
        TrialStopped
            When it is not finite, and when the trial's stopper ends it here.
        """
        if self.monitor is None:
            found = find_monitor(logged, asked=self._asked_monitor, has_returned=bool(self._returned))
            self.monitor = found or RETURNED
            if found is None:
                self.notes.append("validation logs no loss: the mean of what validation_step returns is used")
        if self.monitor == RETURNED:
            total = sum(size for _, size in self._returned)
            value = float(sum(float(loss) * size for loss, size in self._returned) / total)
        else:
            value = float(logged[self.monitor])
        if self._world_size > 1:
            # Every rank has validated on the whole set; the exchange makes them agree to the last bit.
            agreed = torch.tensor(value, device=self._device, dtype=self._dtype)
            torch.distributed.all_reduce(agreed)
            value = float(agreed) / self._world_size
        self.validations.append((self.steps, value))
        self._write(step=self.steps, seconds=self._clock.elapsed, lr=None, train_loss=None, val_loss=value)
        if self._stream is not None:
            self._stream.flush()
        self.validation_seconds += time.perf_counter() - self._validation_began
        self._clock.resume()
        if not math.isfinite(value):
            self.diverged = f"the validation loss was {value} at step {self.steps}"
            if self._stop_on_divergence:
                raise TrialStopped("diverged", self.diverged)
        elif self._stopper is not None:
            self.ended = self._stopper.judge(self.steps, value)
            if self.ended is not None:
                raise TrialStopped("stopped", self.ended.reason)

    def own_pending_losses(self) -> list[float]:
        """Return this rank's losses that were not exchanged yet, for judging a failure."""
        return [float(loss) for losses in self._pending for loss in losses if loss.numel() == 1]

    def close(self) -> None:
        """Write what is pending, if this is the only rank, and close the file; the others cannot be asked any more."""
        if self._world_size == 1 and self._pending:
            self._stop_on_divergence = False
            self.flush()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def final_loss(self) -> float | None:
        """Return the monitored loss at the horizon: the last validation, else the mean of the last steps."""
        return self.validations[-1][1] if self.validations else self.final_train_loss()

    def final_train_loss(self) -> float | None:
        """Return the mean training loss of the last tenth of the steps."""
        counts = self._counts
        share = max(1, round(FINAL_SHARE * self._horizon)) if counts is None else counts.course.last_steps(FINAL_SHARE)
        last = [loss for loss in self.losses[-share:] if loss is not None and math.isfinite(loss)]
        return sum(last) / len(last) if last else None

    def best_loss(self) -> float | None:
        """Return the lowest monitored loss seen, or None."""
        seen = [loss for _, loss in self.validations if math.isfinite(loss)]
        return min(seen) if seen else self.final_loss()

    @property
    def _dtype(self) -> torch.dtype:
        # Some devices have no double precision.
        return torch.float64 if self._device.type == "cpu" else torch.float32

    def _exchange(self) -> tuple[list[float | None], float]:
        # A step may bring no loss on some rank (a skipped batch, a module that logs none): the mean is over those that
        # have one, and a step without any is a gap, which is not divergence.
        count = len(self._pending)
        sums, present = torch.zeros(count, dtype=self._dtype), torch.zeros(count, dtype=self._dtype)
        with_loss = [index for index, losses in enumerate(self._pending) if losses]
        if with_loss:
            sums[with_loss] = torch.stack([_mean(self._pending[index]) for index in with_loss]).to("cpu", self._dtype)
            present[with_loss] = 1
        own = torch.tensor([self._clock.mean_of_last(count)], dtype=self._dtype)
        if self._world_size == 1:
            own_losses = zip(sums.tolist(), present.tolist(), strict=True)
            return [loss if there else None for loss, there in own_losses], float(own)
        whole = torch.cat([sums, present, own]).to(self._device)
        torch.distributed.all_reduce(whole)
        *values, seconds = whole.tolist()
        pairs = zip(values[:count], values[count:], strict=True)
        return [total / ranks if ranks else None for total, ranks in pairs], seconds / self._world_size

    def _write(self, *, step: int, seconds: float, **values: float | None) -> None:
        if self._stream is None:
            return
        number, examples, size = step, step * self._global_batch_size, self._global_batch_size
        if self._counts is not None:
            counts = self._counts
            number, examples, size = counts.number(step), counts.examples(step), counts.batch_size(step)
        cells = [f'"step": {number}, "examples": {examples}, "global_batch_size": {size}']
        # `repr` of a float is its JSON; numbers that are none have no JSON and become null.
        for name, value in (("seconds", round(seconds, 6)), *values.items()):
            cells.append(f'"{name}": {value!r}' if value is not None and math.isfinite(value) else f'"{name}": null')
        self._stream.write("{" + ", ".join(cells) + "}\n")


def _mean(losses: list[torch.Tensor]) -> torch.Tensor:
    if len(losses) == 1 and losses[0].ndim == 0:
        return losses[0].float()
    return torch.stack([loss.float().mean() for loss in losses]).mean()
