"""How much longer training takes through a trial than with the same Lightning Trainer alone.

Run as ``python benchmarks/training_overhead.py [--task byte-gpt] [--ranks 1]``, or with ``--accelerator gpu`` for one
rank on a GPU that both kinds share. Both kinds run in processes forked from this one, with the same module, data,
batch, ranks and threads, and take turns: one trains a block of steps while the other waits, so that whatever else the
machine does falls on both. A block holds at least one exchange of a trial's losses; building and start-up do not count.
The ratio is the median over pairs of neighbouring blocks. The last line is JSON; the exit code is 1 when the ratio is
above what the project allows itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from _training import TASKS as PLAIN_TASKS
from _training import (
    Task,
    join_ranks,
    median_interval,
    rank_environment,
    run_together,
    step_trainer,
    verdict,
    wait_for_device,
)

from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.store.files import to_json
from lrscale.training import rank as trial_rank
from lrscale.zoo import ByteGPT, DigitsMLP

LIMIT = 1.05
BLOCK = 50
"""Steps of a block; a trial exchanges and writes its losses every 50 steps at the most."""
FIRST = 5
"""First steps of a block left out: the other ranks have run ahead by one forward while this one waited."""
WARM_BLOCKS = 2
"""First blocks left out: allocation, the buckets of DDP."""
TURN = "LRSCALE_BENCHMARK_TURN"
"""Environment variable with two file descriptors: to wait for the turn, and to pass it on."""
TIMES = "LRSCALE_BENCHMARK_TIMES"
"""Environment variable that names the file for the time."""


class Timed:
    """Takes turns on rank 0, and writes down the wall-clock seconds of a step in each block."""

    _batches = 0

    def on_train_start(self) -> None:
        """Wait for the first turn."""
        self._seconds: list[float] = []
        self._began = 0.0
        if os.environ["RANK"] == "0":
            self._wait, self._pass = (int(number) for number in os.environ[TURN].split(","))
            os.read(self._wait, 1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time, and pass the turn on at the end of a block."""
        if os.environ["RANK"] != "0":
            return
        self._batches += 1
        place = self._batches % BLOCK
        if place in (FIRST, 0):
            wait_for_device()
        if place == FIRST:
            self._began = time.perf_counter()
        elif place == 0:
            self._seconds.append((time.perf_counter() - self._began) / (BLOCK - FIRST))
            os.write(self._pass, b".")
            os.read(self._wait, 1)

    def on_train_end(self) -> None:
        """Write the blocks, and let the other go on to its end."""
        if os.environ["RANK"] == "0":
            Path(os.environ[TIMES]).write_text(json.dumps(self._seconds[WARM_BLOCKS:]))
            os.write(self._pass, b".")


class TimedMLP(Timed, DigitsMLP):
    """`DigitsMLP`, timed."""


class TimedGPT(Timed, ByteGPT):
    """`ByteGPT`, timed."""


TIMED = {"digits": TimedMLP, "byte-gpt": TimedGPT}
TASKS = {name: dataclasses.replace(task, model=TIMED[name]) for name, task in PLAIN_TASKS.items()}
BLOCKS = {"digits": 20, "byte-gpt": 6}


def run_plain(task: Task, blocks: int, ranks: int, folder: Path, accelerator: str) -> None:
    """Fit with a Trainer as a user would switch off everything that costs time."""
    join_ranks(ranks, folder)
    pl.seed_everything(0, verbose=False)
    module, data = task.make(ranks)
    step_trainer(folder, BLOCK * blocks, ranks, accelerator=accelerator).fit(module, datamodule=data)


def run_trial(task: Task, blocks: int, ranks: int, folder: Path, accelerator: str) -> None:
    """Run the same as a trial, by the job file that a launcher would write."""
    spec = TrialSpec(
        task={
            "model": {"class_path": f"{task.model.__module__}.{task.model.__name__}", "init_args": task.init},
            "data": {"class_path": f"{task.data.__module__}.{task.data.__name__}", "init_args": {}},
        },
        schedule=ScheduleSpec(name="cosine", warmup_steps=20),
        peak_lr=1e-3,
        global_batch_size=task.batch,
        horizon=BLOCK * blocks,
        seed=0,
        validate_every=None,
    )
    job = {
        "spec": spec.to_dict(),
        "purpose": "train",
        "root": str(folder),
        "import_paths": ["."],
        "layout": {
            "per_device_batch_size": task.batch // ranks,
            "accumulate": 1,
            "devices": ranks,
            "num_nodes": 1,
        },
        "folder": str(folder),
        "accelerator": accelerator,
        "rendezvous": str(folder / "rendezvous"),
        "threads": 1,
    }
    path = folder / f"job-{os.environ['RANK']}.json"
    path.write_text(to_json(job))
    code = trial_rank.main(str(path))
    if code:
        raise SystemExit(code)


Kind = Callable[[Task, int, int, Path, str], None]
KINDS: dict[str, Kind] = {"plain": run_plain, "trial": run_trial}


def time_pairs(task: Task, blocks: int, ranks: int, accelerator: str) -> dict[str, list[float]]:
    """Fork the ranks of both kinds, let them train in turns, and return the seconds of a step by block."""
    fork = multiprocessing.get_context("fork").Process
    pipes = [os.pipe(), os.pipe()]
    folders = {name: Path(tempfile.mkdtemp(prefix="lrscale-benchmark-")) for name in KINDS}
    processes = [
        fork(
            target=_run_rank,
            args=(kind, task, blocks, ranks, rank, folders[name], turn, accelerator),
            name=f"{name}, rank {rank}",
        )
        for (name, kind), turn in zip(KINDS.items(), _turns(*pipes), strict=True)
        for rank in range(ranks)
    ]
    os.write(pipes[0][1], b".")
    try:
        run_together(processes)
        return {name: json.loads((folder / "seconds").read_text()) for name, folder in folders.items()}
    except RuntimeError:
        for name, folder in folders.items():
            print(f"{name}: {(folder / 'log').read_text()[-2000:]}", file=sys.stderr)
        raise
    finally:
        for number in (end for pipe in pipes for end in pipe):
            os.close(number)
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _turns(first: tuple[int, int], second: tuple[int, int]) -> tuple[str, str]:
    """Return for each kind where it waits for its turn, and where it passes it on."""
    return f"{first[0]},{second[1]}", f"{second[0]},{first[1]}"


def _run_rank(
    kind: Kind, task: Task, blocks: int, ranks: int, rank: int, folder: Path, turn: str, accelerator: str
) -> None:
    # What goes wrong is told by the log.
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    own = {
        "TORCHELASTIC_RUN_ID": folder.name,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        TIMES: str(folder / "seconds"),
        TURN: turn,
    }
    os.environ.update({**rank_environment(rank, ranks), **own})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kind(task, blocks, ranks, folder, accelerator)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    arguments = parser.parse_args()
    task, blocks = TASKS[arguments.task], BLOCKS[arguments.task]
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(arguments.repeats):
        times = time_pairs(task, blocks, arguments.ranks, arguments.accelerator)
        for name, seconds in times.items():
            found[name] += seconds
        told = ", ".join(f"{name} {1e3 * statistics.median(seconds):.3f}" for name, seconds in times.items())
        print(f"ms a step: {told}", flush=True)
    ratios = [trial / plain for trial, plain in zip(found["trial"], found["plain"], strict=True)]
    low, high = median_interval(ratios)
    result = {
        "benchmark": "training_overhead",
        "task": arguments.task,
        "ranks": arguments.ranks,
        "accelerator": arguments.accelerator,
        "pairs": len(ratios),
        "plain_ms": round(1e3 * statistics.median(found["plain"]), 4),
        "trial_ms": round(1e3 * statistics.median(found["trial"]), 4),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_interval": [round(low, 4), round(high, 4)],
        "ratio_of_fastest": round(min(found["trial"]) / min(found["plain"]), 4),
        "limit": LIMIT,
    }
    return verdict(result)


if __name__ == "__main__":
    sys.exit(main())
