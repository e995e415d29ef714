"""How long the instruments that ride on every trial take at each hook, in microseconds of a step, inside of a real fit.

Run as ``python benchmarks/instrument_hooks.py [--task byte-gpt] [--ranks 2] [--only stability]``. Every call of a hook
is timed by itself, with the caches as cold as training leaves them; the median over steps is told, and the fastest
tenth, which other work on the machine hardly moves. What the instruments do inside of a backward is not among it. What
Lightning takes to call a hook is timed with one that does nothing. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import pytorch_lightning as pl
from _training import TASKS, Task, on_ranks, step_trainer
from pytorch_lightning.trainer import call

from lrscale.training.flavour import Flavour
from lrscale.training.instruments import make_instruments

STEPS = {"digits": 1500, "byte-gpt": 500}
HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
WARM = 50
"""First steps left out."""
IDLE_CALLS = 2000


def timed(hook: Callable[..., None], seconds: list[float]) -> Callable[..., None]:
    """Return the hook, noting how long each call takes."""

    @wraps(hook)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        hook(*args, **kwargs)
        seconds.append(time.perf_counter() - began)

    return wrapped


class Steps(pl.Callback):
    """Divides the times into steps, and at the end times what calling a hook takes."""

    def __init__(self, running: dict[str, list[float]]) -> None:
        self._running = running
        self.steps: list[dict[str, float]] = []
        """Seconds by hook."""
        self.step_seconds: list[float] = []
        self.idle = 0.0
        self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin a step: this callback is the first."""
        del trainer, pl_module, batch, batch_idx
        self.steps.append({name: sum(seconds) for name, seconds in self._running.items()})
        for seconds in self._running.values():
            seconds.clear()
        now = time.perf_counter()
        self.step_seconds.append(now - self._last)
        self._last = now

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Call a hook that no callback but this one defines, with it and without it."""
        del pl_module
        everyone, fastest = trainer.callbacks, {}
        for count in (0, 8):
            trainer.callbacks = [pl.Callback()] * count
            times = []
            for _ in range(IDLE_CALLS):
                began = time.perf_counter()
                call._call_callback_hooks(trainer, "on_before_zero_grad", None)
                times.append(time.perf_counter() - began)
            fastest[count] = float(np.median(times))
        trainer.callbacks = everyone
        self.idle = (fastest[8] - fastest[0]) / 8


def run(
    task: Task, steps: int, ranks: int, asked: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, float]], list[float], float]:
    """Train, and return the seconds of each hook by step, those of each step, and those of a call of a hook."""

    def train(ranks: int, folder: str) -> tuple[list[dict[str, float]], list[float], float]:
        made = make_instruments(asked, Flavour("pytorch_lightning"))
        running: dict[str, list[float]] = defaultdict(list)
        for name, instrument in made.items():
            for hook in HOOKS:
                if callable(found := getattr(type(instrument), hook)):
                    # On the class, where what an instrument sets on itself still takes effect.
                    setattr(type(instrument), hook, timed(found, running[f"{name} {hook}"]))
        clock = Steps(running)
        model, data = task.make(ranks)
        step_trainer(folder, steps, ranks, callbacks=[clock, *made.values()]).fit(model, datamodule=data)
        return clock.steps[WARM:], clock.step_seconds[WARM:], clock.idle

    answer: tuple[list[dict[str, float]], list[float], float] = on_ranks(ranks, train)
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--only", choices=["stability", "noise_scale"])
    parser.add_argument("--every-step", action="store_true", help="measure the noise scale at every step")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["noise_scale", "stability"]
    asked = {name: {"budget": None} if name == "noise_scale" and arguments.every_step else {} for name in names}
    steps, seconds, idle = run(TASKS[arguments.task], STEPS[arguments.task], arguments.ranks, asked)
    hooks = sorted({hook for step in steps for hook in step})
    table = 1e6 * np.array([[step.get(hook, 0.0) for hook in hooks] for step in steps])
    for hook, column in zip(hooks, table.T, strict=True):
        called = column[column > 0]
        if called.size:
            low, middle = np.quantile(called, [0.1, 0.5])
            share = called.size / column.size
            print(f"{hook}: fastest tenth {low:.1f} us, median {middle:.1f} us, in {share:.0%} of steps")
    whole = table.sum(axis=1)
    result = {
        "benchmark": "instrument_hooks",
        "task": arguments.task,
        "ranks": arguments.ranks,
        "instruments": names,
        "steps": len(steps),
        "step_ms": round(1e3 * float(np.median(seconds)), 3),
        "hooks_us_fastest_tenth": round(float(np.quantile(whole, 0.1)), 1),
        "hooks_us_median": round(float(np.median(whole)), 1),
        "calls_a_step": round(float((table > 0).sum(axis=1).mean()), 2),
        "call_of_an_idle_hook_us": round(1e6 * idle, 2),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
