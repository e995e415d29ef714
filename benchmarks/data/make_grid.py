"""Trains a full grid of LRs and batch sizes of a recipe and writes it as a table for ``benchmarks/replay.py``.

The tables beside this file are of 2026-11-25, Python 3.11, torch 2.13.0, Lightning 2.6.6, two CPU cores, made by
``python benchmarks/data/make_grid.py`` with

    digits --batch-sizes 16,32,64,128,256 --lrs 5e-4,1.0 --count 12 --horizon "16k examples" --seeds 2
    byte-gpt --batch-sizes 8,16,32,64 --lrs 5e-4,.064 --count 8 --horizon "2k examples" --seeds 2

Eight rows of `digits`, trained again a day later, came out the same to every digit.

The grid is a study whose only question is `scaling` with those learning rates: killed, it goes on where it was. Every
trial has the same examples, up to a whole step, and a cosine schedule, on one device. The loss is that of the last
validation; a trial that diverged has an empty one.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from lrscale.cli.run import launch_settings
from lrscale.launch import LAUNCHERS
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import load_recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study

COLUMNS = ("cell", "lr", "batch", "seed", "examples", "loss", "status")
DATA = Path(__file__).parent
OFF = ("range_test", "schedules", "noise_scale", "memory", "throughput", "equivalence")


def main() -> None:
    """Train what is missing of the grid and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", help="its path, or the name of a built-in one")
    parser.add_argument("--batch-sizes", required=True, help="global batch sizes, with commas")
    parser.add_argument("--lrs", required=True, help="lowest and highest LR, with a comma")
    parser.add_argument("--count", type=int, default=12, help="LRs, of equal ratio")
    parser.add_argument("--horizon", required=True, help="of every trial, such as '16k examples'")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each setting")
    parser.add_argument("--study", type=Path, help="folder of the study; default: studies/grid-RECIPE")
    parser.add_argument("--out", type=Path, help="table; default: benchmarks/data/RECIPE.csv")
    args = parser.parse_args()
    lo, hi = map(float, args.lrs.split(","))
    rates = [float(f"{lr:.4g}") for lr in np.geomspace(lo, hi, args.count)]
    scaling = (
        f"{{batch_sizes: [{args.batch_sizes}], learning_rates: {rates}, horizon: {args.horizon}, seeds: {args.seeds}}}"
    )
    overrides = [f"experiments.scaling={scaling}", "layout.devices=1", "instruments.noise_scale=false"]
    recipe = load_recipe(args.recipe, [*overrides, *(f"experiments.{name}=null" for name in OFF)])
    folder = StudyFolder(args.study or Path("studies") / f"grid-{recipe.name}")
    with LAUNCHERS["local"](launch_settings(recipe)) as launcher:
        Study(recipe, folder).run(launcher, progress=AbstractProgress())
    trials = sorted(
        StudyView.of(folder),
        key=lambda trial: (trial.spec.global_batch_size, trial.spec.peak_lr, trial.spec.seed),
    )
    out = args.out or DATA / f"{recipe.name}.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for trial in trials:
            spec, loss = trial.spec, trial.record.final_loss
            row = (recipe.name, spec.peak_lr, spec.global_batch_size, spec.seed, spec.examples)
            writer.writerow([*row, "" if loss is None else f"{loss:.6g}", trial.record.status])
    print(f"{len(trials)} trials in {out}")


if __name__ == "__main__":
    main()
