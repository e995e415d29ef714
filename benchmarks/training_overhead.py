"""How much longer training takes through a trial than with the same Lightning Trainer alone.

Run as ``python benchmarks/training_overhead.py [--task byte-gpt] [--ranks 1]``. Both kinds run in fresh processes forked
from this one, with the same module, data, batch, ranks and threads, in turns. What is timed are blocks of optimizer steps
within a fit, so that building and start-up do not count; a block holds whole exchanges of a trial's losses. The ratio is
that of the fast blocks (their 20th percentile), which other programs on the machine disturb least; that of the medians
is printed beside it. The last line is JSON; the exit code is 1 when the ratio is above what the project allows itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.store.files import to_json
from lrscale.training import rank as trial_rank
from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

LIMIT = 1.05
SKIPPED = 30
"""Steps before the clock starts: allocation, the first buckets of DDP."""
BLOCK = 50
"""Steps of a block; a trial exchanges and writes its losses every 50 steps at the most."""
FAST = 0.2
"""Quantile of the blocks that is compared."""
TIMES = "LRSCALE_BENCHMARK_TIMES"
"""Environment variable that names the file for the time."""


class Timed:
    """Writes down, on rank 0, the wall-clock seconds of a step, averaged over each block."""

    _ends: list[float]

    def on_train_start(self) -> None:
        """Begin a list."""
        self._ends = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        self._ends.append(time.perf_counter())

    def on_train_end(self) -> None:
        """Write the blocks."""
        if os.environ["RANK"] == "0":
            marks = self._ends[SKIPPED::BLOCK]
            blocks = [(after - before) / BLOCK for before, after in zip(marks, marks[1:], strict=False)]
            Path(os.environ[TIMES]).write_text(json.dumps(blocks))


class TimedMLP(Timed, DigitsMLP):
    """`DigitsMLP`, timed."""


class TimedGPT(Timed, ByteGPT):
    """`ByteGPT`, timed."""


TASKS: dict[str, dict[str, Any]] = {
    "digits": {"model": TimedMLP, "data": Digits, "init": {}, "batch": 64, "steps": 540},
    "byte-gpt": {"model": TimedGPT, "data": PythonSource, "init": {"width": 64, "depth": 2}, "batch": 8, "steps": 140},
}


def run_plain(task: dict[str, Any], ranks: int, folder: Path) -> None:
    """Fit with a Trainer as a user would switch off everything that costs time."""
    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'rendezvous'}",
            rank=int(os.environ["RANK"]),
            world_size=ranks,
            timeout=timedelta(minutes=5),
        )
    pl.seed_everything(0, verbose=False)
    module, data = task["model"](**task["init"]), task["data"](batch_size=task["batch"] // ranks)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_steps=task["steps"],
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
    )
    trainer.fit(module, datamodule=data)


def run_trial(task: dict[str, Any], ranks: int, folder: Path) -> None:
    """Run the same as a trial, by the job file that a launcher would write."""
    name = "__main__" if __name__ == "__main__" else __name__
    spec = TrialSpec(
        task={
            "model": {"class_path": f"{name}.{task['model'].__name__}", "init_args": task["init"]},
            "data": {"class_path": f"{name}.{task['data'].__name__}", "init_args": {}},
        },
        schedule=ScheduleSpec(name="cosine", warmup_steps=20),
        peak_lr=1e-3,
        global_batch_size=task["batch"],
        horizon=task["steps"],
        seed=0,
        validate_every=None,
    )
    job = {
        "spec": spec.to_dict(),
        "purpose": "train",
        "root": str(folder),
        "import_paths": ["."],
        "layout": {
            "per_device_batch_size": task["batch"] // ranks,
            "accumulate": 1,
            "devices": ranks,
            "num_nodes": 1,
        },
        "folder": str(folder),
        "accelerator": "cpu",
        "rendezvous": str(folder / "rendezvous"),
        "threads": 1,
    }
    path = folder / f"job-{os.environ['RANK']}.json"
    path.write_text(to_json(job))
    code = trial_rank.main(str(path))
    if code:
        raise SystemExit(code)


def time_blocks(kind: Callable[[dict[str, Any], int, Path], None], task: dict[str, Any], ranks: int) -> list[float]:
    """Fork the ranks, run one fit, and return the seconds of a step in each block."""
    folder = Path(tempfile.mkdtemp(prefix="lrscale-benchmark-"))
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            _run_rank(kind, task, ranks, rank, folder)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    try:
        if any(codes):
            raise RuntimeError(f"{kind.__name__} ended with codes {codes}: {(folder / 'log').read_text()[-2000:]}")
        return [float(seconds) for seconds in json.loads((folder / "seconds").read_text())]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_rank(
    kind: Callable[[dict[str, Any], int, Path], None], task: dict[str, Any], ranks: int, rank: int, folder: Path
) -> None:
    code = 1
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0",
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": folder.name,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            TIMES: str(folder / "seconds"),
        }
        os.environ.update({**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        kind(task, ranks, folder)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        code = 0
    except BaseException:  # what went wrong is told by the log; the parent must not go on as a second copy of itself
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ratio_interval(trial: list[list[float]], plain: list[list[float]]) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the ratio, resampling the paired repeats."""
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(1000):
        drawn = generator.integers(len(trial), size=len(trial))
        pooled = [np.concatenate([runs[index] for index in drawn]) for runs in (trial, plain)]
        ratios.append(np.quantile(pooled[0], FAST) / np.quantile(pooled[1], FAST))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    task = TASKS[arguments.task]
    found: dict[str, list[list[float]]] = {"plain": [], "trial": []}
    for repeat in range(arguments.repeats):
        kinds = [("plain", run_plain), ("trial", run_trial)]
        for name, kind in kinds if repeat % 2 == 0 else kinds[::-1]:
            found[name].append(time_blocks(kind, task, arguments.ranks))
            print(f"{name:5}  {1e3 * min(found[name][-1]):8.3f} ms a step in the fastest block", flush=True)
    fast = {name: float(np.quantile(np.concatenate(runs), FAST)) for name, runs in found.items()}
    median = {name: float(np.median(np.concatenate(runs))) for name, runs in found.items()}
    low, high = ratio_interval(found["trial"], found["plain"])
    result = {
        "benchmark": "training_overhead",
        "task": arguments.task,
        "ranks": arguments.ranks,
        "repeats": arguments.repeats,
        "plain_ms": round(1e3 * fast["plain"], 4),
        "trial_ms": round(1e3 * fast["trial"], 4),
        "ratio": round(fast["trial"] / fast["plain"], 4),
        "ratio_interval": [round(low, 4), round(high, 4)],
        "ratio_of_medians": round(median["trial"] / median["plain"], 4),
        "limit": LIMIT,
    }
    print(json.dumps(result))
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
