"""What a report costs: time, memory and size for studies of 60 and of 1,000 trials with 2,000 steps each.

Run as ``python benchmarks/report.py [--trials 60 1000]``. The studies are synthetic, with a trajectory of every step in
every trial; findings are read and not fitted, so that the page alone is measured. Each report is made in a process of
its own, which is what its memory is read from. It prints one JSON line a study with the time over that of reading all
its trajectories with pandas in the same process, the least that any report of them could take; the exit code is 1 when
a bound is missed: 8 s and 5 MB at 60 trials, 60 s, 1 GB and 15 MB at 1,000.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lrscale.testing.synthetic import SyntheticStudy, read_findings, write_synthetic_study

STEPS = 2_000
# trials: seconds, megabytes of memory, megabytes of the page
BOUNDS = {60: (8.0, 1_000.0, 5.0), 1_000: (60.0, 1_000.0, 15.0)}


def settings_for(trials: int) -> SyntheticStudy:
    """Return a study of about so many trials: four batch sizes, six LRs, and as many seeds as that takes."""
    schedules = ("linear",) if trials < 500 else ("constant", "linear", "cosine", "wsd")
    slices = 4 + sum(name != "cosine" for name in schedules)
    seeds = max(1, round((trials - 7) / (6 * slices)))
    return SyntheticStudy(steps=STEPS, seeds=seeds, schedules=schedules)


def measured(path: Path) -> dict[str, Any]:
    """Make the report of a study and return its cost; the process is to have done nothing else."""
    import pandas as pd

    from lrscale.report import write_report
    from lrscale.store import StudyFolder, StudyView

    folder = StudyFolder(path)
    began = time.perf_counter()
    for file in sorted(path.glob("trials/*/trajectory.parquet")):
        pd.read_parquet(file)
    reading = time.perf_counter() - began
    began, busy = time.perf_counter(), time.process_time()
    view = StudyView.of(folder)
    page = write_report(folder, view=view, findings=read_findings(folder), recommendation=None)
    seconds = time.perf_counter() - began
    return {
        "trials": len(view.trials),
        "seconds": round(seconds, 2),
        "processor_seconds": round(time.process_time() - busy, 2),
        "over_reading": round(seconds / reading, 1),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "page_mb": round(page.stat().st_size / 1e6, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="*", default=list(BOUNDS), help="sizes of the studies")
    wanted = parser.parse_args().trials
    missed = False
    for trials in wanted:
        with tempfile.TemporaryDirectory(prefix="lrscale-benchmark-") as scratch:
            path = Path(scratch) / "study"
            write_synthetic_study(path, settings_for(trials))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(measured, (path,))
        bounds = BOUNDS[min(BOUNDS, key=lambda size: abs(size - trials))]
        within = all(
            found[name] <= bound for name, bound in zip(("seconds", "memory_mb", "page_mb"), bounds, strict=True)
        )
        print(json.dumps({**found, "steps": STEPS, "within": within}), flush=True)
        missed = missed or not within
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
