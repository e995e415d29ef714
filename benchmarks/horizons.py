"""Horizons from trunks with cooldowns against runs of their own: what both take, and the best LRs that they name.

    python benchmarks/horizons.py --recipe byte-gpt --batch-size 16 --lengths 1k 2k 4k 8k --study horizons-study

The lengths are examples. Both walk over the LRs as they would in a study, with equal seeds and cooldowns; a run of its
own has the warm-up of its own length. The ratio of examples is that of equal LRs; that of all trials counts the LRs
that each walk came to besides. A study that is there already goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from lrscale.cli.run import launch_settings
from lrscale.launch import LAUNCHERS
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import load_recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study
from lrscale.study.finding import Finding
from lrscale.study.words import interval_text, number

SCHEDULE = {"decay": "one_minus_sqrt", "decay_fraction": 0.2}


def run(recipe: str, settings: dict[str, Any], folder: Path) -> tuple[Finding, int]:
    """Run one study of a recipe with other experiments, and return its finding and the examples that it trained."""
    off = [f"experiments.{name}=false" for name in ("range_test", "equivalence")]
    loaded = load_recipe(recipe, overrides=off)
    whole = {name: None for name in type(loaded.experiments).model_fields} | settings
    experiments = type(loaded.experiments).model_validate(whole)
    loaded = loaded.model_copy(update={"experiments": experiments, "target": None})
    loaded = loaded.model_copy(update={"layout": loaded.layout.model_copy(update={"devices": 1})})
    store = StudyFolder(folder)
    with LAUNCHERS["local"](launch_settings(loaded)) as launcher:
        outcome = Study(loaded, store).run(launcher, progress=AbstractProgress())
    return outcome.findings[0], sum(trial.record.examples for trial in StudyView.of(store))


def main() -> None:
    """Run both and print a line a horizon."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="byte-gpt")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lengths", nargs="+", default=["1k", "2k", "4k", "8k"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--study", type=Path, required=True)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    horizons = {
        "lengths": [f"{length} examples" for length in asked.lengths],
        "batch_size": asked.batch_size,
        "seeds": asked.seeds,
        "own_runs": False,
    }
    shared, shared_examples = run(asked.recipe, {"horizons": horizons}, asked.study / "trunks")
    print(f"examples of a trunk with its cooldowns over those of runs of their own: {shared.data['cost_ratio']:.3f}")
    own_examples, same, told = 0, 0, 0
    for row, length in zip(shared.tables["horizons"], asked.lengths, strict=True):
        scaling = {
            "batch_sizes": [asked.batch_size],
            "horizon": f"{length} examples",
            "schedule": {"name": "wsd", "settings": SCHEDULE},
            "seeds": asked.seeds,
        }
        alone, examples = run(asked.recipe, {"scaling": scaling}, asked.study / f"own-{length}")
        own_examples += examples
        own = alone.tables["slices"][0]
        lo, hi = row["lr_lo"] or 0.0, row["lr_hi"] or float("inf")
        known = own["best_lr"] is not None and row["best_lr"] is not None
        inside = known and lo <= own["best_lr"] <= hi
        same, told = same + inside, told + known
        print(
            f"{length:>6} examples: trunk {number(row['best_lr'])} ({interval_text(row['lr_lo'], row['lr_hi'])}), own "
            f"runs {number(own['best_lr'])} ({interval_text(own['lo'], own['hi'])}); loss {number(row['loss'], 4)} and "
            f"{number(own['loss'], 4)}; {('inside' if inside else 'outside') if known else 'cannot tell'}",
            flush=True,
        )
    print(f"best LR of own runs inside the trunk's interval: {same} of {told} that can be told")
    print(f"examples of all trials: {shared_examples:,} and {own_examples:,}, {shared_examples / own_examples:.2f}")


if __name__ == "__main__":
    main()
