"""Coverage of the interval of a confirmed LR, on ramps and runs at fixed LR whose best LR is known.

Run ``python benchmarks/coverage_range_test.py --studies 300``. Each study draws a basin, ramps over it and lets
`next_runs` choose the runs, so that the interval must stand the choice of its own points.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrscale.laws import analyse_range_curves
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.range_test.confirm import ConfirmSettings, confirm, next_runs
from lrscale.laws.range_test.confirmation import Confirmation, FixedRun

LR = np.geomspace(1e-7, 10, 100)
START = 4.6


@dataclass(frozen=True)
class Case:
    """How noisy the runs are, and how many seeds may be spent."""

    name: str
    noise: float
    """Standard deviation of a run; that of a seed's common shift is 0.02."""
    seeds: int
    shape: str = "own"


CASES = (
    Case("2 seeds, noise 0.004", 0.004, 2),
    Case("2 seeds, noise 0.015", 0.015, 2),
    Case("up to 4 seeds, noise 0.015", 0.015, 4),
    Case("2 seeds, noise 0.01, parabola", 0.01, 2, "parabola"),
    Case("2 seeds, noise 0.01, wall above", 0.01, 2, "wall"),
)


def study(case: Case, rng: np.random.Generator) -> tuple[Confirmation, float, float]:
    """Return the confirmation of one task, its best LR, and the regret of the confirmed one (NaN: none)."""
    p, q, curvature = rng.uniform(0.4, 1.2), rng.uniform(0.6, 2.0), 10 ** rng.uniform(-1.6, -0.7)
    best = 10 ** rng.uniform(-3.5, -0.5)
    edge = best * 10 ** rng.uniform(0.35, 1.2)
    levels = rng.normal(0, 0.02, case.seeds)

    def excess(lr: float) -> float:
        u = math.log(lr / best)
        if case.shape == "own":
            return curvature * float(basin(np.array(u), p, q))
        # A wall stands where training is about to become unstable, and no power law of the LR follows it.
        wall = 0.15 * math.expm1(min(max(4 * (u - 1.5), 0), 50)) if case.shape == "wall" else 0.0
        return curvature * (u**2 / 2 + wall)

    def run(lr: float, seed: int) -> FixedRun:
        if lr > edge * math.exp(rng.normal(0, 0.1)):
            return FixedRun(lr=lr, seed=seed, loss=None)
        # No run ends above its start by more than its noise: it would be one that diverged.
        loss = min(2 + excess(lr), START) + levels[seed] + rng.normal(0, case.noise)
        return FixedRun(lr=lr, seed=seed, loss=loss, gain=START - loss)

    done = np.cumsum(LR)
    curves = []
    for _ in range(2):
        loss = START - 2 * done / (done + 10 * best) + 0.5 * (LR / edge) ** 2 + rng.normal(0, 0.03, LR.size)
        curves.append((LR, np.where(loss > 8, np.nan, loss)))
    finding, runs, settings = analyse_range_curves(curves), [], ConfirmSettings(seeds=case.seeds)
    while wanted := next_runs(finding, runs, settings=settings):
        runs += [run(lr, seed) for lr, seed in wanted]
    found = confirm(finding, runs, settings=settings)
    return found, best, excess(found.lr) if found.lr is not None else math.nan


def row(case: Case, studies: int, random_seed: int = 0) -> tuple[str, int, int, float]:
    """Return name, covered, studies with an interval, and its median width in ln(LR)."""
    rng = np.random.default_rng([random_seed, CASES.index(case)])
    return _row(case, [study(case, rng)[:2] for _ in range(studies)])


def _row(case: Case, studies: Sequence[tuple[Confirmation, float]]) -> tuple[str, int, int, float]:
    known = [(found.interval, best) for found, best in studies if found.interval is not None]
    widths = [math.log(own.hi / own.lo) for own, _ in known if own.lo is not None and own.hi is not None]
    covered = sum(own.contains(best) for own, best in known)
    return case.name, covered, len(known), float(np.median(widths)) if widths else math.nan


def rows(studies: int) -> list[tuple[str, int, int, float]]:
    """Return name, covered, studies and median width in ln(LR), for 95 % intervals."""
    return [row(case, studies) for case in CASES]


def main() -> None:
    """Print the table, with the regret and the cost of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300, help="simulated studies for each row (default 300)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'confirmed LR, 95 % interval':<34} covered  studies  width  confirmed  median regret / noise  runs")
    for case in CASES:
        rng = np.random.default_rng([0, CASES.index(case)])
        seen = [study(case, rng) for _ in range(options.studies)]
        name, covered, counted, width = _row(case, [(found, best) for found, best, _ in seen])
        regret = np.nanmedian([regret for _, _, regret in seen]) / case.noise
        cost, sure = np.mean([len(one.runs) for one, _, _ in seen]), np.mean([one.ok for one, _, _ in seen])
        print(
            f"{name:<34} {covered / max(counted, 1):7.1%}  {counted:7d}  {width:5.2f}  {sure:9.1%}  {regret:21.3f}  "
            f"{cost:4.1f}"
        )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
