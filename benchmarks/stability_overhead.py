"""How much longer a step takes while the norm of its gradient is read for spikes.

Run as ``python benchmarks/stability_overhead.py [--task byte-gpt] [--pairs 20]``. One fit trains in blocks of steps, in
turns without the instrument in its Trainer and with it, so that whatever else the machine does falls on both. The ratio
is the median over pairs of neighbouring blocks. The last line is JSON; the exit code is 1 when the ratio is above what
the project allows itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any

import pytorch_lightning as pl
import torch
from _training import TASKS, FloatArray, Task, Turns, be_quiet, step_trainer, verdict, without_and_with

from lrscale.training.flavour import Flavour
from lrscale.training.instruments import make_instruments

LIMIT = 1.02
BLOCK = 100
"""Steps of a block."""
WARM_PAIRS = 1


class StabilityTurns(Turns):
    """Lets the instrument begin once, with the fit."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the instrument, then the clock."""
        self.instrument.on_train_start(trainer, pl_module)
        super().on_train_start(trainer, pl_module)


def time_blocks(task: Task, pairs: int) -> FloatArray:
    """Return the seconds of a step, as `Turns.pairs` does."""
    pl.seed_everything(0, verbose=False)
    turns = StabilityTurns(make_instruments({"stability": {}}, Flavour("pytorch_lightning"))["stability"], BLOCK)
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        model, data = task.make()
        step_trainer(folder, 2 * BLOCK * (pairs + WARM_PAIRS), callbacks=[turns]).fit(model, datamodule=data)
    return turns.pairs(WARM_PAIRS)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    be_quiet()
    torch.set_num_threads(1)
    seconds = time_blocks(TASKS[arguments.task], arguments.pairs)
    result = {
        "benchmark": "stability_overhead",
        "task": arguments.task,
        **without_and_with(seconds),
        "limit": LIMIT,
    }
    return verdict(result)


if __name__ == "__main__":
    sys.exit(main())
