"""Coverage of the best LR and of the minimum loss of simulated LR slices with known truth.

Run ``python benchmarks/coverage_slices.py --studies 1000``. The basins are mostly not the model's own: a parabola,
parabolas with cubic skew, a wall before divergence, and a side that saturates at the initial loss. A design's row
averages over these shapes, a shape's row over the designs. Slices of a large range have a minimum of 0.05 between walls
that rise to the loss of an untrained model, 2.3, and beyond it on the side of divergence; runs that are far from the
minimum are far noisier, as those of a classifier of digits are. The kink is a stress: its curvature jumps at its
minimum, which no smooth basin can know.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _truths import REALISTIC, STRESS, TRUTHS, FloatArray, Row, Tally, pooled
from numpy.typing import NDArray

from lrscale.laws import fit_lr_slice
from lrscale.laws.base import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A sweep: LRs at ratio 2 around an optimum that is uniform over one grid step."""

    lrs: int
    seeds: int
    noise: float
    """Standard deviation of a run as a fraction of the loss; seeds differ by twice that."""
    curvature: float
    """Coefficient of ln(LR)^2, as a fraction of the loss; 0.0065 is the median of a public LLM study."""

    @property
    def name(self) -> str:
        """The design in words."""
        return f"{self.lrs} LRs, {self.seeds} seeds, noise {self.noise:.1%}, curvature {self.curvature:.2%}"


DESIGNS = (
    Design(lrs=5, seeds=1, noise=0.003, curvature=0.0167),
    Design(lrs=7, seeds=1, noise=0.003, curvature=0.0067),
    Design(lrs=8, seeds=1, noise=0.001, curvature=0.0067),
    Design(lrs=5, seeds=3, noise=0.003, curvature=0.01),
    Design(lrs=6, seeds=2, noise=0.01, curvature=0.0167),
    Design(lrs=7, seeds=3, noise=0.01, curvature=0.0167),
    Design(lrs=8, seeds=3, noise=0.001, curvature=0.0167),
)
LEVEL = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """A sweep whose losses span a large range: LRs at ratio 2, the first replicate at each, others as told."""

    below: int
    """LRs below the one nearest to the optimum."""
    above: int
    seeds: int
    near: int
    """LRs on each side of the optimum that the further seeds train; as a search does, or all."""

    @property
    def name(self) -> str:
        """The design in words."""
        return f"losses from 0.05 to 2.3, {self.below + 1 + self.above} LRs, {self.seeds} seeds"


WIDE = (
    Wide(below=4, above=4, seeds=1, near=9),
    Wide(below=3, above=4, seeds=3, near=2),
    Wide(below=5, above=6, seeds=2, near=9),
    Wide(below=2, above=3, seeds=3, near=1),
)
WIDE_LEVEL, UNTRAINED = 0.05, 2.3


def simulate(
    truth: Callable[[FloatArray], FloatArray], design: Design, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, NDArray[np.int_], float, float]:
    """Return LRs, losses, seeds, the true ln(best LR) and the true minimum loss of one study.

    With one seed its level is the only one there is, and the minimum loss that of this seed; with several it is the
    mean over all seeds.
    """
    grid = (np.arange(design.lrs) - (design.lrs - 1) / 2) * math.log(2)
    best = float(rng.uniform(-0.5, 0.5)) * math.log(2)
    seeds = np.repeat(np.arange(design.seeds), design.lrs)
    x = np.tile(grid, design.seeds)
    sd = LEVEL * design.noise
    shift = rng.normal(0, 2 * sd, design.seeds)
    loss = LEVEL + LEVEL * design.curvature * truth(x - best) + shift[seeds] + rng.normal(0, sd, x.size)
    return np.exp(x), loss, seeds, best, LEVEL + (float(shift[0]) if design.seeds == 1 else 0.0)


def studies_of(design: int, shape: int, studies: int) -> tuple[Tally, Tally]:
    """Fit simulated slices of one design and one truth; count the vertex and the minimum loss."""
    rng = np.random.default_rng([1, design, shape])
    vertex, level = Tally(), Tally()
    for _ in range(studies):
        lr, loss, seeds, best, minimum = simulate(TRUTHS[list(TRUTHS)[shape]], DESIGNS[design], rng)
        fit = fit_lr_slice(lr, loss, seed=seeds)
        if fit.interval is not None:
            vertex.add(fit.interval.contains(math.exp(best)), _width(fit.interval, log=True))
        if fit.min_loss_interval is not None:
            level.add(fit.min_loss_interval.contains(minimum), _width(fit.min_loss_interval, log=False))
    return vertex, level


def wide_truth(u: FloatArray) -> FloatArray:
    """Return the excess loss at u = ln(LR / a place near the optimum)."""
    slow, hot = 0.008 * np.exp(-1.3 * u), 0.004 * np.exp(1.7 * u)
    rise = UNTRAINED - WIDE_LEVEL
    excess: FloatArray = rise * (slow / (1 + slow) + hot / (1 + 0.7 * hot))
    return excess


def wide_studies_of(design: int, studies: int) -> tuple[Tally, Tally]:
    """Fit simulated slices of a large range; count the vertex and the minimum loss."""
    rng, own = np.random.default_rng([2, design]), WIDE[design]
    places = np.linspace(-1.5, 1.5, 3001)
    lowest = float(places[np.argmin(wide_truth(places))])
    floor = float(wide_truth(np.array([lowest]))[0])
    vertex, level = Tally(), Tally()
    steps = np.arange(-own.below, own.above + 1)
    for _ in range(studies):
        shift = rng.normal(0, 0.004, own.seeds)
        best = float(rng.uniform(-0.5, 0.5)) * math.log(2)
        rows = [(step, seed) for seed in range(own.seeds) for step in steps if seed == 0 or abs(int(step)) <= own.near]
        x = np.array([step for step, _ in rows]) * math.log(2)
        seeds = np.array([seed for _, seed in rows])
        excess = wide_truth(x - best + lowest) - floor
        # Runs near divergence differ by a third of their excess, those that have not got far by a twentieth.
        sd = np.hypot(0.004, np.where(x > best, 0.3, 0.05) * excess)
        loss = WIDE_LEVEL + excess + shift[seeds] + rng.normal(0, 1, x.size) * sd
        fit = fit_lr_slice(np.exp(x), loss, seed=seeds)
        if fit.interval is not None:
            vertex.add(fit.interval.contains(math.exp(best)), _width(fit.interval, log=True))
        if fit.min_loss_interval is not None:
            truth = WIDE_LEVEL + (float(shift[0]) if own.seeds == 1 else 0.0)
            level.add(fit.min_loss_interval.contains(truth), _width(fit.min_loss_interval, log=False))
    return vertex, level


def _width(interval: Interval, *, log: bool) -> float:
    if interval.lo is None or interval.hi is None:
        return math.inf
    return math.log(interval.hi / interval.lo) if log else interval.hi - interval.lo


def rows(studies: int) -> list[Row]:
    """Return a row of the vertex for each design and each shape, and one of the minimum loss for each design."""
    each = math.ceil(studies / len(DESIGNS))
    shapes = [list(TRUTHS).index(name) for name in REALISTIC]
    counts = {(i, j): studies_of(i, j, each) for i in range(len(DESIGNS)) for j in shapes}
    wide = [wide_studies_of(index, studies) for index in range(len(WIDE))]
    by_design = [[counts[i, j] for j in shapes] for i in range(len(DESIGNS))]
    by_shape = [[counts[i, j] for i in range(len(DESIGNS))] for j in shapes]
    return [
        *(pooled([v for v, _ in own]).row(f"vertex, {d.name}") for d, own in zip(DESIGNS, by_design, strict=True)),
        *(pooled([v for v, _ in own]).row(f"vertex, shape {n}") for n, own in zip(REALISTIC, by_shape, strict=True)),
        *(
            pooled([m for _, m in own]).row(f"minimum loss, {d.name}")
            for d, own in zip(DESIGNS, by_design, strict=True)
        ),
        *(v.row(f"vertex, {d.name}") for d, (v, _) in zip(WIDE, wide, strict=True)),
        *(m.row(f"minimum loss, {d.name}") for d, (_, m) in zip(WIDE, wide, strict=True)),
    ]


def stress_rows(studies: int) -> list[Row]:
    """Return a row of the vertex for each shape that the model cannot know, over all designs."""
    each = math.ceil(studies / len(DESIGNS))
    places = [list(TRUTHS).index(name) for name in STRESS]
    return [
        pooled([studies_of(i, j, each)[0] for i in range(len(DESIGNS))]).row(f"vertex, shape {name}")
        for name, j in zip(STRESS, places, strict=True)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each row (default 100)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'coverage of the 95 % intervals of LR slices':<66} covered  studies  median width")
    for name, covered, studies, width in [*rows(options.studies), *stress_rows(options.studies)]:
        print(f"{name:<66} {covered / max(studies, 1):7.1%}  {studies:7d}  {width:.3g}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
