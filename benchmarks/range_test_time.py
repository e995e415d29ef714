"""What a point of a range test costs, against Lightning's ``lr_find`` on the same module, data and Trainer settings.

Run as ``python benchmarks/range_test_time.py [--task digits] [--pairs 11] [--seeds 1]``. Calls of both take turns in
one process, in the order ours, theirs, theirs, ours; each includes all that a user waits for: set-up, state kept and
put back. Both record 100 points of a ramp that ends before anything diverges, and neither draws a progress bar. The
ratio is the median over pairs. The last line is JSON; the exit code is 1 when the ratio is above what the project
allows itself.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from typing import Any

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.tuner import Tuner

from lrscale.tune import range_test
from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

LIMIT = 1.0
"""Wall time of a point over that of ``lr_find``."""
POINTS = 100
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"model": DigitsMLP, "data": Digits, "batch": 64, "pairs": 21},
    "byte-gpt": {"model": ByteGPT, "data": PythonSource, "batch": 16, "pairs": 5},
}


def trainer(folder: str) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def ours(model: Any, data: Any, folder: str, seeds: int) -> int:
    found = range_test(
        model, data, trainer=trainer(folder), seeds=seeds, steps=POINTS, lr_min=1e-7, lr_max=1e-2, confirm=False
    )
    return sum(len(curve.lr) for curve in found.families[0].curves)


def theirs(model: Any, data: Any, folder: str) -> int:
    finder = Tuner(trainer(folder)).lr_find(
        model, datamodule=data, min_lr=1e-7, max_lr=1e-2, num_training=POINTS, early_stop_threshold=None
    )
    return len(finder.results["loss"])  # type: ignore[union-attr]  # None only with fast_dev_run


def timed(call: Any, *arguments: Any) -> tuple[float, float]:
    """Return the seconds of a point: on the wall clock, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    points = call(*arguments)
    return (time.perf_counter() - wall) / points, (time.process_time() - processor) / points


def time_pairs(task: dict[str, Any], pairs: int, seeds: int) -> NDArray[np.float64]:
    """Return the seconds of a point, shape (pairs, ours and theirs, wall clock and processor)."""
    torch.manual_seed(0)
    model, data = task["model"](), task["data"](batch_size=task["batch"])
    found = []
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        for number in range(pairs + 1):
            calls = [(ours, (model, data, folder, seeds)), (theirs, (model, data, folder))]
            order = calls if number % 2 == 0 else calls[::-1]
            one, other = (timed(call, *arguments) for call, arguments in order)
            found.append((one, other) if number % 2 == 0 else (other, one))
    # The first pair allocates and imports.
    return np.array(found[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--pairs", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=1, help="ramps of one call of ours; theirs knows one")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    task = TASKS[arguments.task]
    seconds = time_pairs(task, arguments.pairs or task["pairs"], arguments.seeds)
    ratios, processor = (seconds[:, 0] / seconds[:, 1]).T
    drawn = np.median(np.random.default_rng(0).choice(ratios, (2000, ratios.size)), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    result = {
        "benchmark": "range_test_time",
        "task": arguments.task,
        "seeds": arguments.seeds,
        "pairs": len(ratios),
        "ours_ms_a_point": round(1e3 * float(np.median(seconds[:, 0, 0])), 4),
        "lr_find_ms_a_point": round(1e3 * float(np.median(seconds[:, 1, 0])), 4),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_interval": [round(float(low), 4), round(float(high), 4)],
        "ratio_of_processor_time": round(float(np.median(processor)), 4),
        "limit": LIMIT,
    }
    print(json.dumps(result))
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
