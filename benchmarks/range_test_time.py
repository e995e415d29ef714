"""What a point of a range test costs, against Lightning's ``lr_find`` on the same module, data and Trainer settings.

Run as ``python benchmarks/range_test_time.py [--task digits] [--pairs 11] [--seeds 1]``. Calls of both take turns in
one process, in the order ours, theirs, theirs, ours; each includes all that a user waits for: set-up, state kept and
put back. Both record 100 points of a ramp that ends before anything diverges, and neither draws a progress bar. The
ratio is the median over pairs. The last line is JSON; the exit code is 1 when the ratio is above what the project
allows itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Any

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import torch
from _training import FloatArray, Task, be_quiet, make_trainer, paired, verdict
from pytorch_lightning.tuner import Tuner

from lrscale.tune import range_test
from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

LIMIT = 1.0
"""Wall time of a point over that of ``lr_find``."""
POINTS = 100
TASKS = {
    "digits": Task(model=DigitsMLP, data=Digits, batch=64),
    "byte-gpt": Task(model=ByteGPT, data=PythonSource, batch=16),
}
PAIRS = {"digits": 21, "byte-gpt": 5}


def ours(model: Any, data: Any, folder: str, accelerator: str, seeds: int) -> int:
    trainer = make_trainer(folder, accelerator=accelerator)
    found = range_test(model, data, trainer=trainer, seeds=seeds, steps=POINTS, lr_min=1e-7, lr_max=1e-2, confirm=False)
    return sum(len(curve.lr) for curve in found.families[0].curves)


def theirs(model: Any, data: Any, folder: str, accelerator: str) -> int:
    finder: Any = Tuner(make_trainer(folder, accelerator=accelerator)).lr_find(
        model, datamodule=data, min_lr=1e-7, max_lr=1e-2, num_training=POINTS, early_stop_threshold=None
    )
    return len(finder.results["loss"])


def timed(call: Any, *arguments: Any) -> tuple[float, float]:
    """Return the seconds of a point: on the wall clock, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    points = call(*arguments)
    return (time.perf_counter() - wall) / points, (time.process_time() - processor) / points


def time_pairs(task: Task, pairs: int, seeds: int, accelerator: str) -> FloatArray:
    """Return the seconds of a point, shape (pairs, theirs and ours, wall clock and processor)."""
    torch.manual_seed(0)
    model, data = task.make()
    found = []
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        for number in range(pairs + 1):
            shared = (model, data, folder, accelerator)
            calls = [(theirs, shared), (ours, (*shared, seeds))]
            # In the order ours, theirs, theirs, ours.
            order = calls[::-1] if number % 2 == 0 else calls
            one, other = (timed(call, *arguments) for call, arguments in order)
            found.append((other, one) if number % 2 == 0 else (one, other))
    # The first pair allocates and imports.
    return np.array(found[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--pairs", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=1, help="ramps of one call of ours; theirs knows one")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    arguments = parser.parse_args()
    be_quiet()
    torch.set_num_threads(1)
    pairs = arguments.pairs or PAIRS[arguments.task]
    seconds = time_pairs(TASKS[arguments.task], pairs, arguments.seeds, arguments.accelerator)
    result = {
        "benchmark": "range_test_time",
        "task": arguments.task,
        "seeds": arguments.seeds,
        "accelerator": arguments.accelerator,
        "ours_ms_a_point": round(1e3 * float(np.median(seconds[:, 1, 0])), 4),
        "lr_find_ms_a_point": round(1e3 * float(np.median(seconds[:, 0, 0])), 4),
        **paired(seconds),
        "limit": LIMIT,
    }
    return verdict(result)


if __name__ == "__main__":
    sys.exit(main())
