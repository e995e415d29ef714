"""Coverage of the best LR from thin surfaces: five batch sizes with three LRs each, and a known truth.

Run ``python benchmarks/coverage_surfaces.py --studies 1000``. What must be covered is the best LR at one of the
measured batch sizes, and at four times the largest. All batch sizes of a study have the same shape of basin, drawn anew
for each study.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from _truths import LAWS, REALISTIC, TRUTHS, Row, Tally

from lrscale.laws.surface.surface import fit_lr_surface

SIZES = (16.0, 64.0, 256.0, 1024.0, 4096.0)
SEEDS = (1, 2)


def simulate(law: str, seeds: int, rng: np.random.Generator) -> list[tuple[float, float, float, int]]:
    """Return (LR, batch size, loss, seed) of the runs of one study."""
    best_at = LAWS[law][0]
    truth = TRUTHS[REALISTIC[rng.integers(len(REALISTIC))]]
    runs = []
    for size in SIZES:
        # A ratio of 4 between three LRs whose middle is within a factor of two of the best.
        centre = math.log(best_at(size)) + float(rng.uniform(-1, 1)) * math.log(2)
        for seed in range(seeds):
            level = 3 - 0.1 * math.log(size) + rng.normal(0, 0.018)
            for x in centre + math.log(4) * np.arange(-1, 2):
                loss = level + 0.05 * float(truth(np.array(x - math.log(best_at(size))))) + rng.normal(0, 0.009)
                runs.append((math.exp(x), size, loss, seed))
    return runs


def studies_of(law: str, seeds: int, studies: int) -> tuple[Tally, Tally]:
    """Fit surfaces; count the best LR at one of the batch sizes, and the extrapolated one."""
    best_at = LAWS[law][0]
    rng = np.random.default_rng([3, list(LAWS).index(law), seeds])
    inside, beyond = Tally(), Tally()
    for _ in range(studies):
        lr, batch, loss, seed = zip(*simulate(law, seeds, rng), strict=True)
        fit = fit_lr_surface(lr, batch, loss, seed=seed)
        if not fit.ok:
            continue
        for tally, size in ((inside, SIZES[rng.integers(len(SIZES))]), (beyond, 4 * SIZES[-1])):
            _, lo, hi = (float(part[0]) for part in fit.predict([size]))
            tally.add(lo <= best_at(size) <= hi, math.log(hi / lo))
    return inside, beyond


def rows(studies: int) -> list[Row]:
    """Return the rows of every law with one and two seeds; widths are of ln(LR)."""
    table = []
    for law in LAWS:
        for seeds in SEEDS:
            name = f"surface, 5 batches x 3 LRs x {seeds} seeds, {law}"
            inside, beyond = studies_of(law, seeds, studies)
            table += [inside.row(f"{name}: best LR"), beyond.row(f"{name}: at 4x")]
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each row (default 100)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'coverage of the 95 % intervals of thin surfaces':<66} covered  studies  median width")
    for name, covered, studies, width in rows(options.studies):
        print(f"{name:<66} {covered / max(studies, 1):7.1%}  {studies:7d}  {width:.3g}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
