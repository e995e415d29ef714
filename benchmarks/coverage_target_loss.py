"""Coverage of the critical batch size that a study reads off validation curves, target and LR chosen by the study.

Run ``python benchmarks/coverage_target_loss.py --studies 400``. Five batch sizes, three LRs at a ratio of 2 and three
seeds at each, equal examples, ten validations of a run. The steps to any loss are proportional to 1 + 128 / batch at
the best LR; a run's speed of learning varies with its seed and by itself, and its validations have noise. What the fit
of the steps alone covers is in `coverage_steps.py`; this adds the crossing and the choice of the target and of the LR.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np

from lrscale.laws.steps import fit_steps_to_target
from lrscale.study.target_loss.crossings import Curve, choose_target, soonest

CRITICAL = 128.0
SIZES = (16, 32, 64, 128, 256)
EXAMPLES = 40_960
VALIDATIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Standard deviations, and where the best LR lies."""

    run: float = 0.05
    """Of ln(speed) of a run."""
    seed: float = 0.0
    """Of ln(speed) that the trials of a seed share."""
    evaluation: float = 0.0
    """Of a validation; losses fall from 2.5 towards 0.5."""
    off_grid: bool = False
    """Whether the best LR lies anywhere between those tried, and not at the middle one."""


DESIGNS = {
    "runs 3 %": Design(run=0.03),
    "runs 5 %, shared by seeds 5 %": Design(seed=0.05),
    "runs 5 %, shared by seeds 3 %, validations 0.005": Design(seed=0.03, evaluation=0.005),
    "runs 5 %, best LR between those tried": Design(off_grid=True),
}


def simulate(design: Design, rng: np.random.Generator) -> dict[int, list[Curve]]:
    """Return the curves of one study."""
    shared = design.seed * rng.normal(size=3)
    found: dict[int, list[Curve]] = {}
    for size in SIZES:
        horizon = EXAMPLES // size
        steps = np.unique(np.round(np.linspace(0, horizon, VALIDATIONS + 1)[1:]))
        best = math.log(2) * rng.uniform(-0.5, 0.5) if design.off_grid else 0.0
        found[size] = []
        for place in (-1, 0, 1):
            log_lr = place * math.log(2)
            for seed in range(3):
                luck = shared[seed] + design.run * rng.normal()
                speed = math.exp(luck - 0.3 * (log_lr - best) ** 2) / (5 * (1 + CRITICAL / size))
                loss = 0.5 + 2 * (1 + steps * speed) ** -0.5 + design.evaluation * rng.normal(size=steps.size)
                curve = Curve(
                    trial_id="",
                    batch_size=size,
                    lr=math.exp(log_lr),
                    seed=seed,
                    horizon=horizon,
                    steps=steps,
                    loss=loss,
                )
                found[size].append(curve)
    return found


def coverage(name: str, studies: int) -> tuple[int, int, float, float]:
    """Return intervals that hold the truth, intervals, their median width, and the mean ratio of estimate to truth.

    The width is that of ln(high / low), infinite where an end is open.
    """
    rng = np.random.default_rng([0, list(DESIGNS).index(name)])
    covered, logs, widths = 0, [], []
    for _ in range(studies):
        curves = simulate(DESIGNS[name], rng)
        target = choose_target(curves)
        if target is None:
            continue
        runs = [run for some in curves.values() for run in soonest(some, target)]
        fit = fit_steps_to_target(
            [run.curve.batch_size for run in runs],
            [run.crossing.step or math.nan for run in runs],
            censored=[run.crossing.censored for run in runs],
            seed=[run.curve.seed for run in runs],
            resamples=50,
        )
        critical = fit.estimate("critical_batch") if fit.law.derived else None
        if critical is None or critical.interval is None:
            continue
        covered += critical.interval.contains(CRITICAL)
        logs += [] if critical.value is None else [math.log(critical.value / CRITICAL)]
        lo, hi = critical.interval.lo, critical.interval.hi
        widths.append(math.log(hi / lo) if lo and hi else math.inf)
    ratio = math.exp(float(np.mean(logs))) if logs else math.nan
    return covered, len(widths), float(np.median(widths)) if widths else math.nan, ratio


def rows(studies: int) -> list[tuple[str, int, int, float]]:
    """Return name, covered, studies that got an interval, and its median width, for 95 % intervals."""
    return [(name, *coverage(name, studies)[:3]) for name in DESIGNS]


def main() -> None:
    """Print the table, with the bias of the estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each row (default 100)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'coverage of the 95 % interval of the critical batch size':<58} covered  studies  width  mean / truth")
    for name in DESIGNS:
        covered, studies, width, ratio = coverage(name, options.studies)
        print(f"{name:<58} {covered / max(studies, 1):7.1%}  {studies:7d}  {width:5.2f}  {ratio:12.3f}", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
