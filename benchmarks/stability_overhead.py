"""How much longer a step takes while the norm of its gradient is read for spikes.

Run as ``python benchmarks/stability_overhead.py [--task byte-gpt] [--pairs 20]``. One fit trains in blocks of steps, in
turns without the instrument in its Trainer and with it, so that whatever else the machine does falls on both. The ratio
is the median over pairs of neighbouring blocks. The last line is JSON; the exit code is 1 when the ratio is above what
the project allows itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lrscale.training.flavour import Flavour
from lrscale.training.instruments import make_instruments
from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

LIMIT = 1.02
BLOCK = 100
"""Steps of a block."""
WARM_PAIRS = 1
"""First pairs left out: allocation."""

TASKS: dict[str, dict[str, Any]] = {
    "digits": {"model": DigitsMLP, "data": Digits, "init": {}, "batch": 64},
    "byte-gpt": {"model": ByteGPT, "data": PythonSource, "init": {"width": 64, "depth": 2}, "batch": 8},
}


class Turns(pl.Callback):
    """Puts the instrument into the Trainer for every other block, and times the blocks."""

    def __init__(self, instrument: Any) -> None:
        self.instrument = instrument
        self.seconds: list[tuple[float, float]] = []
        """Of a step in each block: on the wall clock, and of the processor."""
        self._steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.instrument.on_train_start(trainer, pl_module)
        self._began = (time.perf_counter(), time.process_time())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time, and change over at the end of a block."""
        del pl_module, outputs, batch, batch_idx
        self._steps += 1
        if self._steps % BLOCK:
            return
        wall, processor = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self.seconds.append((wall / BLOCK, processor / BLOCK))
        # Pairs in the order without, with, with, without: a drift of the machine falls on both alike.
        wanted = (len(self.seconds) + 1) // 2 % 2 == 1
        present = self.instrument in trainer.callbacks
        if wanted and not present:
            trainer.callbacks.insert(0, self.instrument)
        elif present and not wanted:
            trainer.callbacks.remove(self.instrument)
        self._began = (time.perf_counter(), time.process_time())


def time_blocks(task: dict[str, Any], pairs: int) -> np.typing.NDArray[np.float64]:
    """Return the seconds of a step, shape (pairs, without and with the instrument, wall clock and processor)."""
    pl.seed_everything(0, verbose=False)
    turns = Turns(make_instruments({"stability": {}}, Flavour("pytorch_lightning"))["stability"])
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=2 * BLOCK * (pairs + WARM_PAIRS),
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
        trainer.fit(task["model"](**task["init"]), datamodule=task["data"](batch_size=task["batch"]))
    blocks = np.reshape(turns.seconds, (-1, 2, 2))
    # Every second pair came in the other order.
    blocks[1::2] = blocks[1::2, ::-1].copy()
    return blocks[WARM_PAIRS:]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seconds = time_blocks(TASKS[arguments.task], arguments.pairs)
    ratios, processor = (seconds[:, 1] / seconds[:, 0]).T
    drawn = np.median(np.random.default_rng(0).choice(ratios, (2000, ratios.size)), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    result = {
        "benchmark": "stability_overhead",
        "task": arguments.task,
        "pairs": len(ratios),
        "without_ms": round(1e3 * float(np.median(seconds[:, 0, 0])), 4),
        "with_ms": round(1e3 * float(np.median(seconds[:, 1, 0])), 4),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_interval": [round(float(low), 4), round(float(high), 4)],
        "ratio_of_processor_time": round(float(np.median(processor)), 4),
        "added_processor_ms": round(1e3 * float(np.median(seconds[:, 1, 1] - seconds[:, 0, 1])), 4),
        "limit": LIMIT,
    }
    print(json.dumps(result))
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
