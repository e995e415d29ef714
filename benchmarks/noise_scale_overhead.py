"""How much longer a step takes while `lrscale.GradientNoiseScale` measures.

Run as ``python benchmarks/noise_scale_overhead.py [--task byte-gpt] [--ranks 2] [--accumulate 1] [--batch 8]``. One fit
trains in blocks of 100 steps, in turns without the callback in its Trainer and with it, so that whatever else the
machine does falls on both; every 200 steps the instrument begins anew, as in a short trial, with the steps from which
it chooses how many to measure. ``--every-step`` measures all of them whatever that costs. The ratios are medians
over pairs of neighbouring blocks, on the wall clock and of processor time; the share is what the instrument's own clock
says. The last line is JSON; the exit code is 1 when the wall-clock ratio is above what the project allows itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from _training import TASKS, FloatArray, Task, Turns, on_ranks, step_trainer, verdict, without_and_with

import lrscale

LIMIT = 1.03
FIRST = 5
"""First steps of a block left out: the hooks are put on there."""
BLOCK = 100 + FIRST
WARM_PAIRS = 2
PAIRS = {"digits": 80, "byte-gpt": 24}
QUICK_PAIRS = 3
"""Pairs of a quick run, which shows that it works and not what it costs."""


class NoiseScaleTurns(Turns):
    """Lets the instrument begin anew whenever it is put in."""

    def __init__(self, instrument: Any) -> None:
        super().__init__(instrument, BLOCK, FIRST)
        self.measured: list[int] = []
        """Steps measured in each pair of blocks with the instrument, which come one after the other."""
        self.shares: list[float] = []
        """Share of the time that the instrument counted in them."""

    def put_in(self, trainer: Any, module: Any) -> None:
        """Begin as a fit does."""
        self.instrument.on_train_start(trainer, module)
        self.instrument.on_train_epoch_start(trainer, module)

    def take_out(self, trainer: Any, module: Any) -> None:
        """End as a fit does, outside of the time of the blocks."""
        self.shares.append(self.instrument.share)
        self.instrument.on_train_end(trainer, module)
        sums = self.instrument.sums
        self.measured.append(0 if sums is None else len(sums))


def time_blocks(
    task: Task, ranks: int, accumulate: int, pairs: int, settings: dict[str, Any], accelerator: str
) -> tuple[FloatArray, float, float, str]:
    """Return the pairs, the median share of steps measured and of time counted, and what was measured last."""

    def train(ranks: int, folder: str) -> tuple[FloatArray, float, float, str]:
        turns = NoiseScaleTurns(lrscale.GradientNoiseScale(**settings))
        steps = 2 * BLOCK * (pairs + WARM_PAIRS)
        trainer = step_trainer(
            folder, steps, ranks, accelerator=accelerator, accumulate_grad_batches=accumulate, callbacks=[turns]
        )
        model, data = task.make(ranks, accumulate)
        trainer.fit(model, datamodule=data)
        measured, share = float(np.median(turns.measured)) / (2 * BLOCK), float(np.median(turns.shares))
        return turns.pairs(WARM_PAIRS), measured, share, turns.instrument.result().summary()

    answer: tuple[FloatArray, float, float, str] = on_ranks(ranks, train)
    return answer


def main(arguments_given: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--batch", type=int, help="global batch size (default: the task's)")
    parser.add_argument("--pairs", type=int, help="pairs of blocks (default: the task's)")
    parser.add_argument("--every-step", action="store_true", help="measure every step, whatever it costs")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs")
    arguments = parser.parse_args(arguments_given)
    task = TASKS[arguments.task]
    task = dataclasses.replace(task, batch=arguments.batch or task.batch)
    pairs = QUICK_PAIRS if arguments.quick else arguments.pairs or PAIRS[arguments.task]
    settings: dict[str, Any] = {"budget": None} if arguments.every_step else {}
    seconds, measured, share, summary = time_blocks(
        task, arguments.ranks, arguments.accumulate, pairs, settings, arguments.accelerator
    )
    print(summary)
    result = {
        "benchmark": "noise_scale_overhead",
        "task": arguments.task,
        "ranks": arguments.ranks,
        "accelerator": arguments.accelerator,
        "accumulate": arguments.accumulate,
        "batch": task.batch,
        "measured_share": round(measured, 3),
        "counted_share": round(share, 4),
        **without_and_with(seconds),
        "limit": LIMIT,
    }
    return verdict(result)


if __name__ == "__main__":
    sys.exit(main())
