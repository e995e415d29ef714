"""Horizons from trunks with cooldowns against runs of their own: what both take, and the best LRs that they name.

    python benchmarks/horizons.py --recipe byte-gpt --batch-size 16 --lengths 1k 2k 4k 8k --study horizons-study

The lengths are examples. Runs of their own are swept at each length by itself, as a study of that length would be: from
the module's own LR, with a warm-up of 5 % of the length. Trunks walk from the shortest length to the longest. Both have
equal seeds, cooldowns and rules of search. ``--warmup-fraction`` names the trunks' warm-ups, as shares of the shortest
length; each has trunks of its own. A study that is there already goes on.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lrscale.cli.run import launch_settings
from lrscale.launch import LAUNCHERS
from lrscale.launch.progress import AbstractProgress
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.minima import minima_difference
from lrscale.laws.recovered import recovered_ratio
from lrscale.recipe import load_recipe
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.study import Study
from lrscale.study.cells import fit_cell
from lrscale.study.finding import Finding
from lrscale.study.words import interval_text, number

SCHEDULE = {"decay": "one_minus_sqrt", "decay_fraction": 0.2}


def run(recipe: str, settings: dict[str, Any], folder: Path) -> tuple[Finding, list[Trial]]:
    """Run one study of a recipe with other experiments, and return its finding and its trials."""
    off = [f"experiments.{name}=false" for name in ("range_test", "equivalence")]
    loaded = load_recipe(recipe, overrides=off)
    whole = {name: None for name in type(loaded.experiments).model_fields} | settings
    experiments = type(loaded.experiments).model_validate(whole)
    loaded = loaded.model_copy(update={"experiments": experiments, "target": None})
    loaded = loaded.model_copy(update={"layout": loaded.layout.model_copy(update={"devices": 1})})
    store = StudyFolder(folder)
    with LAUNCHERS["local"](launch_settings(loaded)) as launcher:
        outcome = Study(loaded, store).run(launcher, progress=AbstractProgress())
    return outcome.findings[0], list(StudyView.of(store))


def examples(trials: Iterable[Trial]) -> int:
    """Return the examples that trials saw."""
    return sum(trial.record.examples for trial in trials)


def ratio_text(own: LRSliceFit, shared: LRSliceFit) -> tuple[str, bool | None]:
    """Return the ratio of two best LRs with its interval, and whether it may be 1; None where one is not there."""
    if own.best_lr is None or own.interval is None or shared.best_lr is None or shared.interval is None:
        return "cannot tell", None
    value, ends = recovered_ratio(own.best_lr, own.interval, shared.best_lr, shared.interval)
    return f"{number(value)} ({interval_text(ends.lo, ends.hi)})", ends.contains(1.0)


def beside(own: list[Trial], cooled: list[Trial]) -> str:
    """Return the mean loss of runs of their own minus that of cooldowns at the same LRs and seeds, with its spread."""
    places = {(one.spec.peak_lr, one.spec.seed): one.record.final_loss for one in cooled}
    gaps = defaultdict(list)
    for one in own:
        beside, loss = places.get((one.spec.peak_lr, one.spec.seed)), one.record.final_loss
        if beside is not None and loss is not None:
            gaps[one.spec.peak_lr].append(loss - beside)
    return ", ".join(f"{number(lr)}: {sum(own) / len(own):+.3f}" for lr, own in sorted(gaps.items()))


def compare(own: dict[str, list[Trial]], trunk: list[Trial], fraction: float) -> None:
    """Print a line a horizon for trunks with one warm-up, and what they took."""
    lengths, same, inside, told = list(own), 0, 0, 0
    by_length: dict[int, list[Trial]] = defaultdict(list)
    for trial in trunk:
        if trial.spec.schedule.name == "wsd":
            by_length[trial.spec.horizon].append(trial)
    warmup = next(iter(by_length.values()))[0].spec.schedule.warmup_steps
    print(f"trunks with a warm-up of {fraction:g} of the shortest length, {warmup} steps")
    for length, horizon in zip(lengths, sorted(by_length), strict=True):
        cooled, alone = by_length[horizon], own[length]
        mine, theirs = fit_cell(cooled, tolerance=1e-3), fit_cell(alone, tolerance=1e-3)
        text, equal = ratio_text(theirs, mine)
        if equal is not None and theirs.best_lr is not None and mine.interval is not None:
            told += 1
            same += equal
            inside += mine.interval.contains(theirs.best_lr)
        gap = minima_difference(theirs, mine) if theirs.ok and mine.ok else None
        lo, hi = (math.nan, math.nan) if gap is None or gap.interval is None else (gap.interval.lo, gap.interval.hi)
        print(
            f"{length:>6}: best LR of trunk {number(mine.best_lr)}, of own runs {number(theirs.best_lr)}, ratio {text};"
            f" loss {number(mine.min_loss, 4)} and {number(theirs.min_loss, 4)}, difference"
            f" {number(None if gap is None else gap.value)} ({interval_text(lo, hi)});"
            f" at equal LRs {beside(alone, cooled)}",
            flush=True,
        )
    print(f"best LRs that may be equal: {same} of {told}; of own runs inside the trunk's interval: {inside} of {told}")


def main() -> None:
    """Run both and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="byte-gpt")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lengths", nargs="+", default=["1k", "2k", "4k", "8k"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--warmup-fraction", type=float, nargs="+", default=[0.05])
    parser.add_argument("--study", type=Path, required=True)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    own = {}
    for length in asked.lengths:
        scaling = {
            "batch_sizes": [asked.batch_size],
            "horizon": f"{length} examples",
            "schedule": {"name": "wsd", "settings": SCHEDULE},
            "seeds": asked.seeds,
        }
        own[length] = run(asked.recipe, {"scaling": scaling}, asked.study / f"own-{length}")[1]
        print(f"{length:>6}: {len(own[length])} runs of their own", flush=True)
    alone = sum(map(examples, own.values()))
    for fraction in asked.warmup_fraction:
        horizons = {
            "lengths": [f"{length} examples" for length in asked.lengths],
            "batch_size": asked.batch_size,
            "seeds": asked.seeds,
            "warmup_fraction": fraction,
            "own_runs": False,
        }
        finding, trunk = run(asked.recipe, {"horizons": horizons}, asked.study / f"trunks-{fraction:g}")
        compare(own, trunk, fraction)
        shared = examples(trunk)
        print(
            f"examples: {shared:,} of trunks and cooldowns, {finding.data['cost_ratio']:.3f} of those of runs of their "
            f"own at the same places; {alone:,} of the searches by runs of their own, {shared / alone:.3f}\n"
            f"{finding.sentence}",
            flush=True,
        )


if __name__ == "__main__":
    main()
