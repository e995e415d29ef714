"""How much longer a step takes while `lrscale.GradientNoiseScale` measures.

Run as ``python benchmarks/noise_scale_overhead.py [--task byte-gpt] [--ranks 2] [--accumulate 1] [--batch 8]``. One fit
trains in blocks of 200 steps, in turns without the callback in its Trainer and with it, so that whatever else the
machine does falls on both; every 400 steps the instrument begins anew, as in a short trial, with the steps from which
it chooses how many to measure. ``--every-step`` measures all of them whatever that costs. The ratios are medians
over pairs of neighbouring blocks, on the wall clock and of processor time. The last line is JSON; the exit code is 1
when the wall-clock ratio is above what the project allows itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

import lrscale
from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

FloatArray = NDArray[np.float64]

LIMIT = 1.03
FIRST = 5
"""First steps of a block left out: the hooks are put on there."""
BLOCK = 200 + FIRST
WARM_PAIRS = 1
"""First pairs left out: allocation, the buckets of DDP."""

TASKS: dict[str, dict[str, Any]] = {
    "digits": {"model": DigitsMLP, "data": Digits, "init": {}, "batch": 64, "pairs": 20},
    "byte-gpt": {"model": ByteGPT, "data": PythonSource, "init": {"width": 64, "depth": 2}, "batch": 8, "pairs": 8},
}
QUICK_PAIRS = 3
"""Pairs of a quick run, which shows that it works and not what it costs."""


class Turns(pl.Callback):
    """Puts the instrument into the Trainer for every other block, and times the blocks."""

    def __init__(self, instrument: Any) -> None:
        self.instrument = instrument
        self.seconds: list[tuple[float, float]] = []
        """Of a step in each block: on the wall clock, and of this rank's processor."""
        self.measured: list[int] = []
        """Steps measured in each pair of blocks with the instrument, which come one after the other."""
        self._steps = 0
        self._began = (0.0, 0.0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time, and change over at the end of a block."""
        if trainer.fit_loop._should_accumulate():
            return
        self._steps += 1
        place = self._steps % BLOCK
        if place == FIRST:
            self._began = (time.perf_counter(), time.process_time())
        elif place == 0:
            wall, processor = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            self.seconds.append((wall / (BLOCK - FIRST), processor / (BLOCK - FIRST)))
            self._change(trainer, pl_module)

    def _change(self, trainer: Any, module: Any) -> None:
        # Pairs in the order without, with, with, without: a drift of the machine falls on both alike.
        wanted = (len(self.seconds) + 1) // 2 % 2 == 1
        present = self.instrument in trainer.callbacks
        if wanted and not present:
            # Before this one, so that its work at the end of a batch is timed.
            trainer.callbacks.insert(0, self.instrument)
            self.instrument.on_train_start(trainer, module)
            self.instrument.on_train_epoch_start(trainer, module)
        elif present and not wanted:
            self.instrument.on_train_end(trainer, module)
            sums = self.instrument.sums
            self.measured.append(0 if sums is None else len(sums))
            trainer.callbacks.remove(self.instrument)


def run(task: dict[str, Any], ranks: int, accumulate: int, rank: int, folder: str, answer: Connection) -> None:
    """Train on one rank, and answer with the seconds of a step in every block."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "benchmark"}
    os.environ.update({**shared, **own})
    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{Path(folder, 'rendezvous')}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(minutes=5),
        )
    pl.seed_everything(0, verbose=False)
    turns = Turns(lrscale.GradientNoiseScale(**task["instrument"]))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        accumulate_grad_batches=accumulate,
        max_steps=2 * BLOCK * (task["pairs"] + WARM_PAIRS),
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[turns],
        default_root_dir=folder,
    )
    trainer.fit(task["model"](**task["init"]), datamodule=task["data"](batch_size=task["batch"] // ranks // accumulate))
    answer.send((turns.seconds, turns.measured, turns.instrument.result().summary()))
    if ranks > 1:
        torch.distributed.destroy_process_group()


def time_blocks(task: dict[str, Any], ranks: int, accumulate: int) -> tuple[FloatArray, float, str]:
    """Return the seconds of a step, shape (pairs, without and with the instrument, wall clock and processor).

    And the median share of the steps that were measured, and what the instrument measured last.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
        started = [
            context.Process(target=run, args=(task, ranks, accumulate, rank, folder, send))
            for rank, (_, send) in enumerate(pipes)
        ]
        for process in started:
            process.start()
        for _, send in pipes:
            send.close()
        seconds, measured, summary = pipes[0][0].recv()
        for process in started:
            process.join()
    pairs = np.reshape(seconds, (-1, 2, 2))
    # Every second pair came in the other order.
    pairs[1::2] = pairs[1::2, ::-1].copy()
    return pairs[WARM_PAIRS:], float(np.median(measured)) / (2 * BLOCK), summary


def main(arguments_given: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--batch", type=int, help="global batch size (default: the task's)")
    parser.add_argument("--every-step", action="store_true", help="measure every step, whatever it costs")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs")
    arguments = parser.parse_args(arguments_given)
    task = dict(TASKS[arguments.task])
    task["batch"] = arguments.batch or task["batch"]
    task["pairs"] = QUICK_PAIRS if arguments.quick else task["pairs"]
    task["instrument"] = {"budget": None} if arguments.every_step else {}
    seconds, measured, summary = time_blocks(task, arguments.ranks, arguments.accumulate)
    print(summary)
    ratios, processor = (seconds[:, 1] / seconds[:, 0]).T
    drawn = np.median(np.random.default_rng(0).choice(ratios, (2000, ratios.size)), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    result = {
        "benchmark": "noise_scale_overhead",
        "task": arguments.task,
        "ranks": arguments.ranks,
        "accumulate": arguments.accumulate,
        "batch": task["batch"],
        "measured_share": round(measured, 3),
        "pairs": len(ratios),
        "without_ms": round(1e3 * float(np.median(seconds[:, 0, 0])), 4),
        "with_ms": round(1e3 * float(np.median(seconds[:, 1, 0])), 4),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_interval": [round(float(low), 4), round(float(high), 4)],
        "ratio_of_fastest": round(float(seconds[:, 1, 0].min() / seconds[:, 0, 0].min()), 4),
        "ratio_of_processor_time": round(float(np.median(processor)), 4),
        "added_processor_ms": round(1e3 * float(np.median(seconds[:, 1, 1] - seconds[:, 0, 1])), 4),
        "limit": LIMIT,
    }
    print(json.dumps(result))
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
