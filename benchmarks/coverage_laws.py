"""Coverage of the law of the best LR against the batch size, on simulated slices with known truth.

Run ``python benchmarks/coverage_laws.py --studies 1000``. All slices of a study have the same shape of basin, drawn
anew for each study. What must be covered is the LR at four times the largest batch size, and the slope: the exponent of
the power law for a power truth, and the local slope at the middle batch size for the other.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from _truths import LAWS, REALISTIC, TRUTHS, FloatArray, Row, Tally

from lrscale.laws import LRSliceFit, fit_lr_slice, fit_optimal_lr

DESIGNS = ((4, 1), (5, 2), (6, 3))
"""(batch sizes at ratio 4 from 16, seeds)"""


def simulated_slice(
    best: float, seeds: int, truth: Callable[[FloatArray], FloatArray], rng: np.random.Generator
) -> LRSliceFit:
    """Return the fit of seven LRs at ratio 2 whose middle is within half a step of the best."""
    centre = math.log(best) + float(rng.uniform(-0.5, 0.5)) * math.log(2)
    x = np.tile(centre + (np.arange(7) - 3) * math.log(2), seeds)
    seed = np.repeat(np.arange(seeds), 7)
    loss = 3 + 0.05 * truth(x - math.log(best)) + rng.normal(0, 0.018, seeds)[seed] + rng.normal(0, 0.009, x.size)
    return fit_lr_slice(np.exp(x), loss, seed=seed)


def studies_of(law: str, design: int, studies: int) -> tuple[Tally, Tally]:
    """Fit a law to slices; count the LR predicted at four times the largest batch size, and the slope."""
    count, seeds = DESIGNS[design]
    best_at, slope_at = LAWS[law]
    sizes = 16.0 * 4.0 ** np.arange(count)
    rng = np.random.default_rng([2, list(LAWS).index(law), design])
    predicted, slopes = Tally(), Tally()
    for _ in range(studies):
        truth = TRUTHS[REALISTIC[rng.integers(len(REALISTIC))]]
        fit = fit_optimal_lr(sizes, [simulated_slice(best_at(size), seeds, truth, rng) for size in sizes])
        if not fit.ok:
            continue
        _, lo, hi = (float(part[0]) for part in fit.predict([4 * sizes[-1]]))
        predicted.add(lo <= best_at(4 * sizes[-1]) <= hi, math.log(hi / lo))
        if law.startswith("power"):
            interval = fit.row("power").parameters[1][2]
            lo = -math.inf if interval.lo is None else interval.lo
            hi = math.inf if interval.hi is None else interval.hi
            slopes.add(lo <= slope_at(1.0) <= hi, hi - lo)
        else:
            middle = float(np.exp(np.log(sizes).mean()))
            _, lo, hi = (float(part[0]) for part in fit.local_slope([middle]))
            slopes.add(lo <= slope_at(middle) <= hi, hi - lo)
    return predicted, slopes


def rows(studies: int) -> list[Row]:
    """Return the rows of every law and design; widths are of ln(LR) or of the slope."""
    table = []
    for law in LAWS:
        slope = "exponent" if law.startswith("power") else "local slope"
        for design, (count, seeds) in enumerate(DESIGNS):
            name = f"law, {count} batches x {seeds} seeds, {law}"
            predicted, slopes = studies_of(law, design, studies)
            table += [predicted.row(f"{name}: LR at 4x"), slopes.row(f"{name}: {slope}")]
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each row (default 100)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'coverage of the 95 % intervals of laws of the best LR':<66} covered  studies  median width")
    for name, covered, studies, width in rows(options.studies):
        print(f"{name:<66} {covered / max(studies, 1):7.1%}  {studies:7d}  {width:.3g}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
