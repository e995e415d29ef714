"""The instrument that splits a step's time into waiting for data, computation, and waiting for other ranks."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any, final

import torch

from lrscale.errors import LrscaleError
from lrscale.laws.step_time.mean import SeriesMean, mean_of_series
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument

SETTLING_STEPS = 3
"""First steps left out: allocation, autotuning, the loader's start, and DDP's new order of buckets."""


@final
class _Mark:
    """A moment on the device's own clock: an event in its queue, or the host's clock where it works in step."""

    __slots__ = ("_event", "_seconds")

    def __init__(self, device: torch.device) -> None:
        self._event: Any = None
        self._seconds = 0.0
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it so
        self.set()

    def set(self) -> None:
        if self._event is not None:
            self._event.record()
        else:
            self._seconds = time.perf_counter()

    def until(self, later: _Mark) -> float:
        if self._event is not None:
            return float(self._event.elapsed_time(later._event)) / 1000
        return later._seconds - self._seconds


@final
@dataclass(slots=True)
class _Step:
    """Stretches of a step's time, each from a mark to a mark."""

    waits_for_data: list[tuple[_Mark, _Mark]] = field(default_factory=list)
    work: list[tuple[_Mark, _Mark]] = field(default_factory=list)
    """From the start of each forward to the end of its backward, of the last one to the end of the optimizer's step."""
    waits_for_ranks: list[tuple[_Mark, _Mark]] = field(default_factory=list)

    def parts(self) -> tuple[float, float, float]:
        data, work, ranks = (
            sum(before.until(after) for before, after in stretches)
            for stretches in (self.waits_for_data, self.work, self.waits_for_ranks)
        )
        return data, ranks, data + work


@final
@INSTRUMENTS.register("step_time")
class StepTimeInstrument(AbstractInstrument):
    """Splits every second step, or as many as `every` says, into its parts.

    Data: from the end of a forward and backward to the start of the next one, in which the loop fetches a batch and
    moves it to the device. Synchronisation: from the moment at which the last gradient of this rank was ready to the
    end of the backward, in which DDP waits for the reduction and for slower ranks; what it hides behind the backward
    costs no time and is not counted. Computation: the rest, the optimizer's step among it. What lrscale does between
    steps for its own records is left out. On CUDA the moments are events in the device's queue, so that a host that
    runs ahead is not taken for waiting. The parts are means over the ranks.

    The hooks that watch for the last gradient are there in measured steps only; nothing else changes.

    Parameters
    ----------
    every : int, optional
        Steps from one measured step to the next, at least 1. Default 2.
    """

    def __init__(self, *, every: int = 2) -> None:
        if every < 1:
            raise LrscaleError(f"every is {every}", hint="use at least 1")
        self._every = every
        self._device = torch.device("cpu")
        self._ranks = 1
        self._forwards = 1
        self._steps = 0
        self._forward = 0
        self._measuring = False
        self._last_end: _Mark | None = None
        self._ready: _Mark | None = None
        self._handles: list[Any] = []
        self._began: _Mark | None = None
        self._stepped: _Mark | None = None
        self._step = _Step()
        self._measured: list[_Step] = []
        self._busy = 0.0
        self._result: dict[str, Any] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Learn the layout, and listen to the optimizers: nothing of a step comes after theirs."""
        self._device = trainer.strategy.root_device
        self._ranks = int(trainer.world_size)
        self._busy = _processes_per_core()
        self._forwards = int(trainer.accumulate_grad_batches) if pl_module.automatic_optimization else 1
        for optimizer in trainer.strategy.optimizers:
            if hasattr(optimizer, "register_step_post_hook"):
                optimizer.register_step_post_hook(self._note_step)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """End the wait for data; decide at the first forward of a step whether it is measured."""
        del trainer, batch, batch_idx
        if self._forward == 0:
            settled = self._steps >= SETTLING_STEPS and (self._steps - SETTLING_STEPS) % self._every == 0
            self._measuring = settled and self._last_end is not None
            self._step = _Step()
        self._began = self._stepped = None
        if not self._measuring or self._last_end is None:
            return
        self._began = _Mark(self._device)
        self._step.waits_for_data.append((self._last_end, self._began))
        if self._ranks > 1 and self._forward == self._forwards - 1:
            self._watch_gradients(pl_module)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """End the wait for the other ranks."""
        del trainer, pl_module
        if self._ready is not None:
            self._step.waits_for_ranks.append((self._ready, _Mark(self._device)))
        self._unwatch()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End a forward, and with the last one the step."""
        del trainer, pl_module, outputs, batch, batch_idx
        self._unwatch()
        self._last_end = _Mark(self._device)
        if self._began is not None:
            self._step.work.append((self._began, self._stepped or self._last_end))
        self._forward += 1
        if self._forward >= self._forwards:
            if self._measuring:
                self._measured.append(self._step)
            self._forward = 0
            self._steps += 1

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Leave validation out: the next step is not measured."""
        del trainer, pl_module
        self._last_end = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Read the clocks and average over the ranks."""
        del trainer, pl_module
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        rows = [step.parts() for step in self._measured]
        dtype = torch.float64 if self._device.type == "cpu" else torch.float32
        table = torch.tensor(rows, dtype=dtype, device=self._device).reshape(len(rows), 3)
        if self._ranks > 1:
            torch.distributed.all_reduce(table)
            table /= self._ranks
        self._result = _summary(table.tolist(), synchronised=self._ranks > 1)
        self._result["busy"] = round(self._busy, 2)

    def measurement(self) -> dict[str, Any]:
        """Return seconds and shares of each part, with the standard errors and degrees of freedom of the shares.

        ``busy`` is the load of the last minute for each core of this rank's machine, as its own clock saw it.
        """
        return self._result or {"steps": 0}

    def _note_step(self, *_: Any) -> None:
        if self._began is not None:
            self._stepped = _Mark(self._device)

    def _watch_gradients(self, module: Any) -> None:
        self._ready = None

        def note(parameter: Any) -> None:
            del parameter
            if self._ready is None:
                self._ready = _Mark(self._device)
            else:
                self._ready.set()

        for parameter in module.parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_post_accumulate_grad_hook(note))

    def _unwatch(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._ready = [], None


def _processes_per_core() -> float:
    """Return how many processes of the machine wanted a core in the last minute, for each core; 0 where unknown."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        return os.getloadavg()[0] / cores
    except (AttributeError, OSError):
        return 0.0


def _summary(rows: list[list[float]], *, synchronised: bool) -> dict[str, Any]:
    if not rows:
        return {"steps": 0}
    whole = mean_of_series([row[2] for row in rows]).value
    found: dict[str, Any] = {"steps": len(rows), "seconds": whole}
    parts = {"data": [row[0] for row in rows], "sync": [row[1] for row in rows]}
    for name, seconds in parts.items():
        mean = mean_of_series(seconds)
        # A ratio of means, whose error comes from the residuals of the part about its share of the step.
        share = mean.value / whole
        rest: SeriesMean = mean_of_series([part - share * row[2] for part, row in zip(seconds, rows, strict=True)])
        found[name] = {
            "seconds": mean.value,
            "share": share,
            "se": None if rest.se is None else rest.se / whole,
            "degrees": rest.degrees,
        }
    if not synchronised:
        found["sync"] = {"seconds": 0.0, "share": 0.0, "se": None, "degrees": 0}
    return found
