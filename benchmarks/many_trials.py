"""What a trial costs the driver when it does no work: time and memory over thousands of trials of one study.

Run as ``python benchmarks/many_trials.py [--trials 10000]``. The trials run nowhere: a launcher hands their records on
at once, each with the trajectory of a short run, so that all that is left is the driver's own work, from the plan to
the record on disk. It prints one JSON line; the exit code is 1 when a trial takes more than 5 ms of the driver's
processor time, the last thousand more than twice the first, or the driver holds more than 300 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lrscale.launch import AbstractLauncher, LaunchSettings, SilentProgress, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe, parse_recipe
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, TrialRecord, TrialSpec
from lrscale.study.budget.keeper import Keeper
from lrscale.study.budget.spent import Ledger
from lrscale.study.experiments import AbstractExperiment, Context
from lrscale.study.finding import Finding
from lrscale.study.rounds import Rounds
from lrscale.units import Layout

MOST_MS, MOST_MB, MOST_GROWTH = 5.0, 300.0, 2.0
BLOCK = 1_000
"""Trials whose time is taken together."""
ROWS = "".join(json.dumps({"step": step, "train_loss": 1 / step, "lr": 1e-3}) + "\n" for step in range(1, 21))
RECIPE = """
name: many
task: {model: {class_path: lrscale.zoo.DigitsMLP}, data: {class_path: lrscale.zoo.Digits}}
experiments: {scaling: {batch_sizes: [32], horizon: 2k examples}}
"""


class Idle(AbstractLauncher):
    """Hands records on at once."""

    def __init__(self) -> None:
        super().__init__(LaunchSettings(root=Path()))
        self.times: list[float] = []
        """Processor seconds at the start of every block of trials."""

    def __enter__(self) -> Idle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield a record for each request."""
        for place, request in enumerate(requests):
            if place % BLOCK == 0:
                self.times.append(time.process_time())
            progress.trial_started(request.spec, request.layout)
            (request.folder / "trajectory.jsonl").write_text(ROWS)
            yield TrialRecord(
                trial_id=request.spec.trial_id,
                status="completed",
                final_loss=0.5,
                best_loss=0.5,
                steps=20,
                examples=640,
                layout=request.layout,
                timing={"total": 0.1, "examples_per_second": 1e4},
            )
        self.times.append(time.process_time())

    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        """Find nothing."""
        return {}


class ManyTrials(AbstractExperiment):
    """So many trials, all in one round."""

    key, title, question = "scaling", "many", "many"

    def __init__(self, recipe: Recipe, count: int) -> None:
        self._specs = [
            TrialSpec(
                task=recipe.task.resolved(recipe.root),
                schedule=ScheduleSpec(name="constant"),
                peak_lr=1e-3,
                global_batch_size=32,
                horizon=20,
                seed=seed,
            )
            for seed in range(count)
        ]

    def is_asked(self, recipe: Recipe) -> bool:
        """Return True."""
        return True

    def plan(self, context: Context) -> list[TrialSpec]:
        """Return all trials."""
        return self._specs

    def at_most(self, context: Context) -> list[TrialSpec]:
        """Return all trials."""
        return self._specs

    def analyse(self, context: Context) -> Finding:
        """Refuse: the rounds alone are timed, and they analyse nothing."""
        raise AssertionError("rounds do not analyse")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = parser.parse_args()
    recipe, launcher = parse_recipe(RECIPE), Idle()
    with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as scratch:
        folder = StudyFolder(Path(scratch) / "S")
        plan: dict[str, Any] = {"recipe": recipe.dump(), "decisions": []}
        trials: dict[str, Any] = {}
        view = StudyView(trials, folder.trajectory)
        began = time.perf_counter(), time.process_time()
        with folder.locked():
            keeper = Keeper(recipe, Ledger.open(plan, folder, view, 1), plan, view, {})
            rounds = Rounds(folder, plan, trials, launcher, SilentProgress(), keeper)
            rounds.run(ManyTrials(recipe, arguments.trials), (), {})
        wall, processor = (
            now - then for now, then in zip((time.perf_counter(), time.process_time()), began, strict=True)
        )
        blocks = [1e3 * (end - start) / BLOCK for start, end in zip(launcher.times, launcher.times[1:], strict=False)]
    result = {
        "benchmark": "many_trials",
        "trials": len(trials),
        "wall_ms_a_trial": round(1e3 * wall / len(trials), 3),
        "processor_ms_a_trial": round(1e3 * processor / len(trials), 3),
        "first_and_last_block_ms": [round(blocks[0], 3), round(blocks[-1], 3)],
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "limits": {"processor_ms_a_trial": MOST_MS, "peak_mb": MOST_MB, "growth": MOST_GROWTH},
    }
    print(json.dumps(result))
    held = (
        result["processor_ms_a_trial"] <= MOST_MS
        and result["peak_mb"] <= MOST_MB
        and blocks[-1] <= MOST_GROWTH * blocks[0]
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
