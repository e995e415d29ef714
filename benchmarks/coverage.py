"""Coverage of the intervals of `fit_lr_slice` and `fit_optimal_lr` on simulated studies with known truth.

Run ``python benchmarks/coverage.py --studies 1000``. Most of the shapes are not the model's own: a parabola, parabolas
with cubic skew, a wall before divergence, a side that saturates at the initial loss, and a kink in the curvature. The
printed coverage counts every study that gets an interval, one-sided ones included.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrscale.laws import FitStatus, fit_lr_slice, fit_optimal_lr
from lrscale.laws.basin import basin

FloatArray = NDArray[np.float64]

# Each has value 0, its minimum at 0 and second derivative 2 there (from below for the kink).
TRUTHS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "p=.5,q=1": lambda u: 2 * basin(u, 0.5, 1.0),
    "p=q=1": lambda u: 2 * basin(u, 1.0, 1.0),
    "p=.25,q=2": lambda u: 2 * basin(u, 0.25, 2.0),
    "parabola": lambda u: u**2,
    "cubic +": lambda u: u**2 + 0.15 * u**3,
    "cubic -": lambda u: u**2 - 0.1 * u**3,
    "wall": lambda u: u**2 + 0.3 * np.expm1(np.maximum(4 * (u - 1.5), 0)),
    "saturating": lambda u: np.where(u < 0, 3 * (1 - np.exp(-(u**2) / 3)), u**2),
    "kink": lambda u: 2 * np.log(np.cosh(u)) + np.where(u > 0, 0.4 * u**2, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A sweep: LRs at ratio 2 around an optimum that is uniform over one grid step."""

    lrs: int
    seeds: int
    noise: float
    """Standard deviation of a run as a fraction of the loss."""
    curvature: float
    """Coefficient of ln(LR)^2, as a fraction of the loss; 0.0065 is the median of a public LLM study."""


DESIGNS = (
    Design(lrs=5, seeds=1, noise=0.003, curvature=0.0167),
    Design(lrs=7, seeds=1, noise=0.003, curvature=0.0067),
    Design(lrs=8, seeds=1, noise=0.001, curvature=0.0067),
    Design(lrs=5, seeds=3, noise=0.003, curvature=0.01),
    Design(lrs=6, seeds=2, noise=0.01, curvature=0.0167),
    Design(lrs=7, seeds=3, noise=0.01, curvature=0.0167),
    Design(lrs=8, seeds=3, noise=0.001, curvature=0.0167),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Counts over the studies of one design and truth."""

    studies: int
    ok: int
    with_interval: int
    covered: int
    covered_ok: int
    bias: float
    width: float


def simulate(
    truth: Callable[[FloatArray], FloatArray], design: Design, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, NDArray[np.int_], float]:
    """Return LRs, losses, seeds and the true ln(best LR) of one study; block effects have twice the noise."""
    grid = (np.arange(design.lrs) - (design.lrs - 1) / 2) * math.log(2)
    best = float(rng.uniform(-0.5, 0.5)) * math.log(2)
    seeds = np.repeat(np.arange(design.seeds), design.lrs)
    x = np.tile(grid, design.seeds)
    sd = 3 * design.noise
    loss = 3 + 3 * design.curvature * truth(x - best) + rng.normal(0, 2 * sd, design.seeds)[seeds]
    return np.exp(x), loss + rng.normal(0, sd, x.size), seeds, best


def slice_coverage(name: str, design: Design, studies: int, random_seed: int) -> Coverage:
    """Fit `studies` simulated slices and count how often the interval holds the true best LR."""
    rng = np.random.default_rng([random_seed, list(TRUTHS).index(name)])
    ok = with_interval = covered = covered_ok = 0
    errors, widths = [], []
    for _ in range(studies):
        lr, loss, seeds, best = simulate(TRUTHS[name], design, rng)
        fit = fit_lr_slice(lr, loss, seed=seeds, resamples=100)
        if fit.interval is None:
            continue
        inside = fit.interval.contains(math.exp(best))
        with_interval += 1
        covered += inside
        if fit.status is FitStatus.OK and fit.vertex is not None:
            ok += 1
            covered_ok += inside
            errors.append(fit.vertex - best)
            widths.append(math.log((fit.interval.hi or math.inf) / (fit.interval.lo or math.nan)))
    return Coverage(
        studies=studies,
        ok=ok,
        with_interval=with_interval,
        covered=covered,
        covered_ok=covered_ok,
        bias=float(np.mean(errors)) if errors else math.nan,
        width=float(np.median(widths)) if widths else math.nan,
    )


def law_coverage(batch: float, studies: int, random_seed: int, sizes: tuple[int, ...]) -> float:
    """Return how often the predicted interval at `batch` holds the true best LR of a saturating law with knee 256."""
    rng = np.random.default_rng([random_seed, int(batch)])
    hits = 0
    for _ in range(studies):
        slices = []
        for size in sizes:
            centre = math.log(0.02 / (1 + 256 / size))
            grid = np.log(0.02 / (1 + 256 / size)) + (np.arange(7) - 3 + rng.uniform(-0.5, 0.5)) * math.log(2)
            loss = 3 + 0.05 * TRUTHS["cubic +"](grid - centre) + rng.normal(0, 0.009, 7)
            slices.append(fit_lr_slice(np.exp(grid), loss, resamples=300))
        fit = fit_optimal_lr(sizes, slices, resamples=300)
        if fit.ok:
            _, lo, hi = fit.predict([batch])
            hits += bool(lo[0] <= 0.02 / (1 + 256 / batch) <= hi[0])
    return hits / studies


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each cell (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    fits = 0
    print("coverage of the 95 % interval of the best LR [coverage of ok fits, share ok, bias and width in ln LR]")
    everything = []
    for design in DESIGNS:
        print(f"\n{design.lrs} LRs x {design.seeds} seeds, noise {design.noise:.1%}, curvature {design.curvature:.2%}")
        for name in TRUTHS:
            own = slice_coverage(name, design, options.studies, options.seed)
            fits += own.studies
            share, share_ok = own.covered / max(own.with_interval, 1), own.covered_ok / max(own.ok, 1)
            everything.append(share)
            print(
                f"  {name:<11} {share:6.1%}  [{share_ok:6.1%} of {own.ok / own.studies:4.0%} ok, "
                f"bias {own.bias:+.3f}, width {own.width:.2f}]"
            )
    seconds = time.perf_counter() - start
    print(
        f"\nmean {np.mean(everything):.1%}, lowest cell {np.min(everything):.1%}, {1e3 * seconds / fits:.0f} ms a fit"
    )
    print("\ncoverage of the 95 % interval of the predicted best LR, saturating truth with knee 256")
    for sizes in ((16, 64, 256, 1024), (16, 64, 256, 1024, 4096)):
        for batch in (128.0, 4096.0, 16384.0):
            share = law_coverage(batch, max(options.studies // 4, 10), options.seed, sizes)
            print(f"  slices at {sizes}, predicted at {batch:g}: {share:6.1%}")


if __name__ == "__main__":
    main()
