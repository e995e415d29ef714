"""What the benchmarks of training share: small tasks, plain Trainers, ranks, blocks in turns, paired ratios."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained."""

    model: type[Any]
    data: type[Any]
    batch: int
    """Global batch size."""
    init: dict[str, Any] = field(default_factory=dict)
    """Arguments of the model."""

    def make(self, ranks: int = 1, accumulate: int = 1) -> tuple[Any, Any]:
        """Return a model and its data."""
        return self.model(**self.init), self.data(batch_size=self.batch // ranks // accumulate)


TASKS = {
    "digits": Task(model=DigitsMLP, data=Digits, batch=64),
    "byte-gpt": Task(model=ByteGPT, data=PythonSource, batch=8, init={"width": 64, "depth": 2}),
}


def make_trainer(folder: str | Path, ranks: int = 1, *, accelerator: str = "cpu", **settings: Any) -> pl.Trainer:
    """Return a Trainer as a user would make it who switches off everything that costs time."""
    return pl.Trainer(
        accelerator=accelerator,
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **settings,
    )


def step_trainer(folder: str | Path, steps: int, ranks: int = 1, **settings: Any) -> pl.Trainer:
    """Return such a Trainer that takes a number of optimizer steps and never validates."""
    return make_trainer(
        folder, ranks, max_steps=steps, max_epochs=-1, limit_val_batches=0, num_sanity_val_steps=0, **settings
    )


def wait_for_device() -> None:
    """Wait for what was asked of a GPU, which the host runs ahead of."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def be_quiet() -> None:
    """Show neither warnings nor what Lightning says of itself."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def join_ranks(ranks: int, folder: str | Path) -> None:
    """Form the process group of gloo that a Trainer of this process will use; RANK is set."""
    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{Path(folder, 'rendezvous')}",
            rank=int(os.environ["RANK"]),
            world_size=ranks,
            timeout=timedelta(minutes=5),
        )


def rank_environment(rank: int, ranks: int) -> dict[str, str]:
    """Return what Lightning reads about a rank that is there already."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return {
        **shared,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "benchmark",
    }


def run_together(processes: Sequence[ForkProcess]) -> None:
    """Start processes and wait for all of them; when one fails the others, which would wait for it, are ended.

    Raises
    ------
    RuntimeError
        When one of them fails, with its name.
    """
    try:
        for process in processes:
            process.start()
        running = list(processes)
        while running:
            wait([process.sentinel for process in running])
            for process in list(running):
                if process.exitcode is not None:
                    running.remove(process)
                if process.exitcode:
                    raise RuntimeError(f"{process.name} ended with {process.exitcode}")
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


def on_ranks(ranks: int, function: Callable[[int, str], Any]) -> Any:
    """Call ``function(ranks, folder)`` on forked ranks of one thread each, and return what it returns on the first."""
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        answer = Path(folder, "answer")

        def run(rank: int) -> None:
            be_quiet()
            torch.set_num_threads(1)
            os.environ.update(rank_environment(rank, ranks))
            join_ranks(ranks, folder)
            pl.seed_everything(0, verbose=False)
            found = function(ranks, folder)
            if rank == 0:
                answer.write_bytes(pickle.dumps(found))
            if ranks > 1:
                torch.distributed.destroy_process_group()

        fork = multiprocessing.get_context("fork").Process
        run_together([fork(target=run, args=(rank,), name=f"rank {rank}") for rank in range(ranks)])
        return pickle.loads(answer.read_bytes())


class Turns(pl.Callback):
    """Puts an instrument into the Trainer for every other block of steps, and times the blocks.

    Blocks come in the order without, with, with, without: a drift of the machine falls on both alike.

    Parameters
    ----------
    instrument : Callback
        That costs time.
    block : int
        Steps of a block.
    first : int
        First steps of a block left out.
    """

    def __init__(self, instrument: Any, block: int, first: int = 0) -> None:
        self.instrument = instrument
        self.seconds: list[tuple[float, float]] = []
        """Of a step in each block: on the wall clock, and of this rank's processor."""
        self.fastest: list[tuple[float, float]] = []
        """Fastest tenth of the steps of each block: on the wall clock, and of the processor in the training thread."""
        self._ends: list[tuple[float, float]] = []
        self._block = block
        self._first = first
        self._steps = 0
        self._began = (0.0, 0.0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        del trainer, pl_module
        self._began = (time.perf_counter(), time.process_time())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time, and change over at the end of a block."""
        del outputs, batch, batch_idx
        if trainer.fit_loop._should_accumulate():
            return
        self._steps += 1
        place = self._steps % self._block
        if place in (0, self._first):
            wait_for_device()
        self._ends.append((time.perf_counter(), time.thread_time()))
        if place == 0:
            steps = np.diff(self._ends[self._first :], axis=0)
            self.fastest.append(tuple(np.quantile(steps, 0.1, axis=0).tolist()))
            self._ends = []
            wall, processor = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            timed = self._block - self._first
            self.seconds.append((wall / timed, processor / timed))
            wanted = (len(self.seconds) + 1) // 2 % 2 == 1
            present = self.instrument in trainer.callbacks
            if wanted and not present:
                # Before this one, so that its work at the end of a batch is timed.
                trainer.callbacks.insert(0, self.instrument)
                self.put_in(trainer, pl_module)
            elif present and not wanted:
                self.take_out(trainer, pl_module)
                trainer.callbacks.remove(self.instrument)
        if place == self._first:
            self._began = (time.perf_counter(), time.process_time())

    def put_in(self, trainer: Any, module: Any) -> None:
        """Begin two blocks with the instrument."""

    def take_out(self, trainer: Any, module: Any) -> None:
        """End them."""

    def pairs(self, warm: int) -> FloatArray:
        """Return the seconds of a step, shape (pairs, without and with, columns of `seconds` and of `fastest`).

        The first pairs, `warm` of them, are left out: allocation, the buckets of DDP.
        """
        found = np.reshape(np.hstack([self.seconds, self.fastest]), (-1, 2, 4))
        # Every second pair came in the other order.
        found[1::2] = found[1::2, ::-1].copy()
        return found[warm:]


def median_interval(values: Sequence[float] | FloatArray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the median, by resampling."""
    drawn = np.median(np.random.default_rng(0).choice(values, (2000, len(values))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def paired(seconds: FloatArray) -> dict[str, Any]:
    """Return what pairs of shape (pairs, peer and ours, wall clock and processor) say, as JSON values.

    Ratios are medians over the pairs, with their intervals of 95 %. Where the machine does other work, that of
    processor time is the steadier one.
    """
    wall, processor = (seconds[:, 1] / seconds[:, 0]).T[:2]
    return {
        "pairs": len(seconds),
        "ratio": round(float(np.median(wall)), 4),
        "ratio_interval": [round(edge, 4) for edge in median_interval(wall)],
        "ratio_of_processor_time": round(float(np.median(processor)), 4),
        "ratio_of_processor_time_interval": [round(edge, 4) for edge in median_interval(processor)],
        "load": round(os.getloadavg()[0], 1),
    }


def verdict(result: Mapping[str, Any]) -> int:
    """Print a result as JSON with what it says of its limit, and return the exit code.

    ``"limit_is"`` is ``"held"`` where the ratio is within the limit, ``"exceeded"`` where the whole interval lies above
    it, else ``"not told"``: the pairs are too few, or the machine too busy. Only the second is a failure.
    """
    held, exceeded = result["ratio"] <= result["limit"], result["ratio_interval"][0] > result["limit"]
    print(json.dumps({**result, "limit_is": "held" if held else "exceeded" if exceeded else "not told"}))
    return 1 if exceeded else 0


def without_and_with(seconds: FloatArray) -> dict[str, Any]:
    """Return `paired`, and milliseconds of a step without an instrument and with it.

    The fastest tenth of the steps of a block, which other work on the machine hardly moves, shows what every step
    costs and misses what comes now and then; of it there are the wall clock and the processor time of the training
    thread.
    """
    fastest = (seconds[:, 1, 2:] / seconds[:, 0, 2:]).T
    return {
        "without_ms": round(1e3 * float(np.median(seconds[:, 0, 0])), 4),
        "with_ms": round(1e3 * float(np.median(seconds[:, 1, 0])), 4),
        **paired(seconds),
        "added_processor_ms": round(1e3 * float(np.median(seconds[:, 1, 1] - seconds[:, 0, 1])), 4),
        "fastest_without_ms": [round(1e3 * float(np.median(own)), 4) for own in seconds[:, 0, 2:].T],
        "ratio_of_fastest": [round(float(np.median(own)), 4) for own in fastest],
        "ratio_of_fastest_interval": [[round(edge, 4) for edge in median_interval(own)] for own in fastest],
    }
