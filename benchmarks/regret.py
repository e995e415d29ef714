"""What following a finder costs: the regret of ours, Lightning's, fastai's valley and minimum / 10, on built-in tasks.

Run as ``python benchmarks/regret.py [--task digits] [--seeds 10] [--ramps 3] [--quick] [--keep FILE]``. A seed
initialises the module. On it are run: ramps and their confirmation by `lrscale.tune.range_test`; Lightning's
``lr_find`` with its defaults; fastai's two rules on the first ramp, smoothed and cut as fastai does it. Each
suggestion, and each LR of a lattice of factors of two, is then trained at constant LR for the horizon, from the same
initial weights, with orders of examples that no finder has seen. The regret is the validation loss of a
suggestion minus that of the lattice's best LR (lowest mean over seeds) on the same seed, in nats; a run that diverges,
and a finder without a suggestion, count as the initial loss. Seeds that are in FILE already are not run again; the runs
that confirmed are in it too. The last line is JSON; the exit code is 1 when a rule beats ours by more than its error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pytorch_lightning as pl
import torch
from _training import FloatArray, be_quiet, make_trainer
from pytorch_lightning.tuner import Tuner

from lrscale.laws import minimum_over_ten, valley
from lrscale.schedules import build_schedule
from lrscale.training.flavour import flavour_of
from lrscale.tune import range_test
from lrscale.tune.kept import Kept
from lrscale.tune.live_data import LiveData
from lrscale.tune.runs import LiveRuns
from lrscale.tune.trainer_settings import read_settings
from lrscale.zoo import ByteGPT, Digits, DigitsMLP, PythonSource

EVALUATION_SEED = 1000
"""Added to a seed for the order of examples in the runs that decide."""
POINTS = 100
TASKS: dict[str, dict[str, Any]] = {
    "digits": {
        "model": DigitsMLP,
        "data": lambda: Digits(batch_size=64),
        "horizon": 150,
        "orders": 3,
        "lattice": [2.0**power for power in range(-13, 0)],
        "initial": float(np.log(10)),
    },
    "byte-gpt": {
        "model": ByteGPT,
        "data": lambda: PythonSource(batch_size=8, max_bytes=1_000_000, validation_windows=128),
        "horizon": 100,
        "orders": 1,
        "lattice": [2.0**power for power in range(-12, -2)],
        "initial": float(np.log(256)),
    },
}
METHODS = ("lrscale", "lightning", "valley", "minimum / 10")


def fastai_curve(lr: FloatArray, loss: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Smooth and cut a raw ramp as fastai does: debiased mean of 0.98, to 4 x best, without a tenth and 5 points."""
    mean, smoothed = 0.0, []
    for count, value in enumerate(loss, start=1):
        mean = 0.98 * mean + 0.02 * value
        smoothed.append(mean / (1 - 0.98**count))
        if not np.isfinite(smoothed[-1]) or smoothed[-1] > 4 * min(smoothed):
            break
    cut = slice(len(lr) // 10, len(smoothed) - 5)
    return lr[: len(smoothed)][cut], np.array(smoothed)[cut]


def suggestions(task: dict[str, Any], seed: int, ramps: int, folder: str) -> dict[str, Any]:
    """Return what each finder suggests for one initialisation, the steps that it took, and the runs that confirmed."""
    data = task["data"]()
    pl.seed_everything(seed, verbose=False)
    model = task["model"]()
    result = range_test(
        model,
        data,
        trainer=make_trainer(folder),
        seeds=range(ramps * seed, ramps * (seed + 1)),
        steps=POINTS,
        confirm_steps=task["horizon"],
    )
    family = result.families[0]
    found = family.confirmation
    assert found is not None
    curve = family.curves[0]
    cut = fastai_curve(np.array(curve.lr), np.array(curve.loss))
    pl.seed_everything(seed, verbose=False)
    finder: Any = Tuner(make_trainer(folder)).lr_find(model, datamodule=data)
    answers = {
        "lrscale": found.lr if found.lr is not None else found.lowest_tested,
        "lightning": finder.suggestion(),
        "valley": valley(*cut),
        "minimum / 10": minimum_over_ten(*cut),
    }
    steps = {
        "lrscale": sum(len(own.lr) for own in family.curves) + len(found.runs) * task["horizon"],
        "lightning": len(finder.results["lr"]),
        "valley": len(curve.lr),
        "minimum / 10": len(curve.lr),
    }
    runs = [dataclasses.asdict(run) for run in found.runs]
    return {"suggested": answers, "steps": {**steps, "confirmed": int(found.ok)}, "runs": runs}


def evaluator(task: dict[str, Any], seed: int, folder: str) -> Callable[[float], float]:
    """Return the function that trains one initialisation at an LR and gives the mean validation loss at the horizon."""
    pl.seed_everything(seed, verbose=False)
    model, data = task["model"](), task["data"]()
    flavour = flavour_of(type(model))
    settings = read_settings(make_trainer(folder), flavour)
    live = LiveData(model, data, None, flavour)
    runs = LiveRuns(model, live, settings, flavour, Kept(model), optimizer=None, optimizer_states=[])
    runs.discover()

    def one_order(lr: float, number: int) -> float:
        outcome = runs.run(
            schedule=build_schedule("constant"),
            peak_lr=lr,
            horizon=task["horizon"],
            seed=EVALUATION_SEED * (1 + number) + seed,
            layout=live.layout(None, 1, 1, 1),
            validate_every=0,
        )
        return task["initial"] if outcome.final_loss is None else min(outcome.final_loss, task["initial"])

    def loss(lr: float) -> float:
        return float(np.mean([one_order(lr, number) for number in range(task["orders"])]))

    return loss


def one_seed(task: dict[str, Any], seed: int, ramps: int) -> dict[str, Any]:
    """Return lattice losses, suggestions and their losses for one initialisation."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as folder:
        answers = suggestions(task, seed, ramps, folder)
        loss = evaluator(task, seed, folder)
        lattice = [loss(lr) for lr in task["lattice"]]
        losses = {name: task["initial"] if lr is None else loss(lr) for name, lr in answers["suggested"].items()}
    seconds = round(time.perf_counter() - began, 1)
    return {"seed": seed, "lattice": lattice, "losses": losses, **answers, "seconds": seconds}


def table(name: str, task: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the regret of each method, and of the best LR without a finder."""
    lattice = np.array([row["lattice"] for row in rows])
    means = lattice.mean(axis=0)
    best = int(np.argmin(means))
    draws = np.random.default_rng(0).integers(0, len(rows), (4000, len(rows)))
    result: dict[str, Any] = {
        "task": name,
        "seeds": len(rows),
        "horizon": task["horizon"],
        "best_lr": task["lattice"][best],
        "best_loss": round(float(means[best]), 4),
        "confirmed": sum(row["steps"]["confirmed"] for row in rows),
        "methods": {},
    }
    regrets = {method: np.array([row["losses"][method] for row in rows]) - lattice[:, best] for method in METHODS}
    for method, regret in regrets.items():
        drawn = regret[draws].mean(axis=1)
        behind = (regret - regrets["lrscale"])[draws].mean(axis=1)
        lrs = [row["suggested"][method] for row in rows if row["suggested"][method] is not None]
        result["methods"][method] = {
            "regret": round(float(regret.mean()), 4),
            "interval": [round(float(edge), 4) for edge in np.quantile(drawn, [0.025, 0.975])],
            "worst": round(float(regret.max()), 4),
            "more": round(float((regret - regrets["lrscale"]).mean()), 4),
            "behind_lrscale": [round(float(edge), 4) for edge in np.quantile(behind, [0.025, 0.975])],
            "median_lr": float(np.median(lrs)) if lrs else None,
            "range_lr": [min(lrs), max(lrs)] if lrs else None,
            "without": len(rows) - len(lrs),
            "steps": round(float(np.mean([row["steps"][method] for row in rows]))),
        }
    return result


def shown(result: dict[str, Any]) -> str:
    """Return a result as a Markdown table."""
    lines = [
        f"{result['task']}: {result['seeds']} seeds, horizon {result['horizon']} steps, best LR of the lattice "
        f"{result['best_lr']:.2g} with validation loss {result['best_loss']:.3f} nats",
        "",
        "| method | suggested LR (median, range) | regret, nats (95 %) | more than ours (95 %) | worst seed | steps |",
        "|---|---|---|---|---|---|",
    ]
    for method, own in result["methods"].items():
        span = (
            "none"
            if own["median_lr"] is None
            else "{:.2g} ({:.2g} to {:.2g})".format(own["median_lr"], *own["range_lr"])
        )
        regret = "{:.3f} ({:.3f} to {:.3f})".format(own["regret"], *own["interval"])
        behind = "" if method == "lrscale" else "{:.3f} ({:.3f} to {:.3f})".format(own["more"], *own["behind_lrscale"])
        lines.append(f"| {method} | {span} | {regret} | {behind} | {own['worst']:.3f} | {own['steps']:,} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), action="append")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ramps", type=int, default=3, help="ramps of a call of ours, and replicates of its runs")
    parser.add_argument("--quick", action="store_true", help="digits alone over three seeds")
    parser.add_argument("--keep", type=Path, help="JSON lines of the seeds that are done; made and continued")
    arguments = parser.parse_args()
    be_quiet()
    torch.set_num_threads(1)
    names = ["digits"] if arguments.quick else arguments.task or sorted(TASKS)
    seeds = min(3, arguments.seeds) if arguments.quick else arguments.seeds
    done: list[dict[str, Any]] = []
    if arguments.keep is not None and arguments.keep.is_file():
        done = [json.loads(line) for line in arguments.keep.read_text(encoding="utf-8").splitlines()]
    results = []
    for name in names:
        rows = [row for row in done if row["task"] == name and row["seed"] < seeds]
        for seed in sorted(set(range(seeds)) - {row["seed"] for row in rows}):
            rows.append({"task": name, **one_seed(TASKS[name], seed, arguments.ramps)})
            if arguments.keep is not None:
                with arguments.keep.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
            print(f"{name}, seed {seed}: {rows[-1]['seconds']} s", file=sys.stderr, flush=True)
        results.append(table(name, TASKS[name], rows))
        print(shown(results[-1]), end="\n\n")
    # Behind ours by a negative amount at both ends of the interval: that rule is better.
    beaten = [
        f"{method} on {result['task']}"
        for result in results
        for method, own in result["methods"].items()
        if method != "lrscale" and own["behind_lrscale"][1] < 0
    ]
    print(json.dumps({"benchmark": "regret", "results": results, "better_than_lrscale": beaten}))
    return 1 if beaten else 0


if __name__ == "__main__":
    sys.exit(main())
