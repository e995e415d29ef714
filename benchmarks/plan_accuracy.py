"""What a plan says a study takes, against what the study then takes, in device time, examples and trials.

    python benchmarks/plan_accuracy.py --recipe digits
    python benchmarks/plan_accuracy.py --recipe byte-gpt --budget 10m

A few short trials are measured first, as ``lrscale plan RECIPE --measure`` does; the plan is made, and the study runs.
Their own time is in neither sum. On a machine that does other work the time of a step moves by itself: the last line
says what steps took of what they were priced at. With a budget the study gives out what its first questions leave over,
so that only the lines of single experiments compare.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from lrscale.cli.run import launch_settings
from lrscale.launch import LAUNCHERS
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe, load_recipe
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.study import PlannedExperiment, Study
from lrscale.study.cost import CostModel


def device_seconds(trials: Iterable[Trial]) -> float:
    """Return the time of trials on all of their devices."""
    return sum(
        trial.record.timing.get("total", 0.0) * (1 if trial.record.layout is None else trial.record.layout.world_size)
        for trial in trials
    )


def by_experiment(folder: StudyFolder, view: StudyView) -> dict[str, list[Trial]]:
    """Return the trials that each experiment asked for first."""
    seen: set[str] = set()
    found: dict[str, list[Trial]] = {}
    for decision in folder.read_plan()["decisions"]:
        ids = [one for one in decision.get("trials", ()) if one in view.trials and one not in seen]
        seen |= set(ids)
        found.setdefault(decision.get("experiment", "-"), []).extend(view.trials[one] for one in ids)
    return found


def measured(recipe: Recipe, folder: StudyFolder) -> tuple[PlannedExperiment, ...]:
    """Run the short trials, and return the plan that they make possible."""
    with LAUNCHERS["local"](launch_settings(recipe)) as launcher:
        Study(recipe, folder).measure(launcher, progress=AbstractProgress())
    return Study(recipe, folder).plan(StudyView.of(folder))


def main() -> None:
    """Measure, plan, run, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--budget", help="as for lrscale run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    overrides = [*options.set, *([f"cost.budget={options.budget}"] if options.budget else [])]
    recipe = load_recipe(options.recipe, overrides)
    with tempfile.TemporaryDirectory() as home:
        folder = StudyFolder(Path(home) / "study")
        load = os.getloadavg()[0]
        planned = measured(recipe, folder)
        before = set(StudyView.of(folder).trials)
        began = time.monotonic()
        with LAUNCHERS["local"](launch_settings(recipe)) as launcher:
            Study(recipe, folder).run(launcher, progress=AbstractProgress())
        wall = time.monotonic() - began
        view = StudyView.of(folder)
        took = by_experiment(folder, view)
        print(f"{recipe.name}, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")
        print(f"{'experiment':12} {'trials':>13} {'examples':>21} {'device-seconds':>21} ratio")
        kept = [entry for entry in planned if entry.verdict != "left out"]
        for entry in kept:
            own = took.get(entry.name, [])
            _line(entry.name, [entry], own)
        ran = [trial for trial_id, trial in view.trials.items() if trial_id not in before]
        _line("all", kept, ran)
        print(f"wall clock of the run {wall:.0f} s; planned {sum(entry.seconds or 0.0 for entry in kept):.0f} s")
        drift = _drift(recipe, folder, before)
        print(f"steps took {drift:.2f} of what they were priced at; on an idle machine that is the price's own error")


def _line(name: str, entries: list[PlannedExperiment], trials: list[Trial]) -> None:
    expected = sum(entry.device_seconds or 0.0 for entry in entries)
    actual = device_seconds(trials)
    count = f"{sum(entry.trials_expected for entry in entries)} / {len(trials)}"
    examples = f"{sum(entry.examples for entry in entries):,} / {sum(trial.record.examples for trial in trials):,}"
    ratio = f"{expected / actual:.2f}" if actual else "-"
    print(f"{name:12} {count:>13} {examples:>21} {f'{expected:.0f} / {actual:.0f}':>21} {ratio:>5}")


def _drift(recipe: Recipe, folder: StudyFolder, before: set[str]) -> float:
    """Return what the steps of the run took, over what they were priced at by the measuring trials."""
    view = StudyView.of(folder)
    first = StudyView({trial_id: view.trials[trial_id] for trial_id in before}, folder.trajectory)
    prices = CostModel.of(recipe, first, folder.read_plan()["facts"])
    took = priced = 0.0
    for trial_id, trial in view.trials.items():
        step = trial.record.timing.get("step_mean")
        if trial_id in before or step is None or trial.record.layout is None:
            continue
        expected, _ = prices.step(trial.spec, trial.record.layout)
        if expected is not None:
            took += trial.record.steps * step
            priced += trial.record.steps * expected
    return took / priced if priced else float("nan")


if __name__ == "__main__":
    main()
