"""Coverage of the interval of the critical batch size from steps to a target, on simulated studies with known truth.

Run ``python benchmarks/coverage_steps.py --studies 1000``. Each study draws the place of the knee within the measured
batch sizes and the noise of a run between 3 and 10 %. Studies with censored runs stop every run at a budget of
examples, so that a large batch size may not arrive; tuning adds an error that the seeds of a batch size share.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.steps import StepsFit, fit_steps_to_target

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Batch sizes at a constant ratio whose middle is the knee, up to half a ratio either way."""

    batches: int
    seeds: int = 1
    ratio: float = 4.0
    noise: tuple[float, float] = (0.03, 0.1)
    """Standard deviation of ln(steps) of a run; each study draws its own between the two."""
    tuning: float = 0.0
    """Standard deviation of ln(steps) that the seeds of a batch size share."""
    shared: float = 0.0
    """Standard deviation of ln(steps) that the batch sizes of a seed share."""
    budget: float = math.inf
    """Examples after which a run stops, as a multiple of those that the largest batch size needs on average."""
    known_noise: bool = False
    """Whether the fit is told the noise of a run."""


DESIGNS: dict[str, Design] = {
    "5 batches x 1 seed": Design(batches=5),
    "5 batches x 3 seeds": Design(batches=5, seeds=3),
    "6 batches x 2 seeds": Design(batches=6, seeds=2),
    "8 batches x 1 seed, ratio 2": Design(batches=8, ratio=2.0),
    "8 batches x 3 seeds, ratio 2": Design(batches=8, seeds=3, ratio=2.0),
    "6 batches x 3 seeds, tuning error 5 %": Design(batches=6, seeds=3, tuning=0.05),
    "6 batches x 3 seeds, shared by seeds 5 %": Design(batches=6, seeds=3, shared=0.05),
    "5 batches x 1 seed, noise known": Design(batches=5, known_noise=True),
    "6 batches x 1 seed, censored": Design(batches=6, budget=1.0),
    "6 batches x 3 seeds, censored": Design(batches=6, seeds=3, budget=1.0),
    "8 batches x 1 seed, ratio 2, censored": Design(batches=8, ratio=2.0, budget=1.0),
    "8 batches x 3 seeds, ratio 2, censored, tuning error 5 %": Design(
        batches=8, seeds=3, ratio=2.0, budget=0.9, tuning=0.05
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The runs of one study; knee and S_min are 1000 each."""

    batch: FloatArray
    steps: FloatArray
    censored: NDArray[np.bool_]
    seed: list[int]
    noise_sd: float | None

    def fit(self) -> StepsFit:
        """Return the fit that a user would make."""
        return fit_steps_to_target(
            self.batch,
            self.steps,
            censored=self.censored if self.censored.any() else None,
            seed=self.seed,
            noise_sd=self.noise_sd,
        )


KNEE, FEWEST = 1000.0, 1000.0


def simulate(design: Design, rng: np.random.Generator) -> Simulated:
    """Return the runs of one study."""
    place = np.arange(design.batches) - (design.batches - 1) / 2 + rng.uniform(-0.5, 0.5)
    sizes = KNEE * design.ratio**place
    batch = np.repeat(sizes, design.seeds)
    seed = np.tile(np.arange(design.seeds), design.batches)
    noise = float(rng.uniform(*design.noise))
    log_steps = np.log(FEWEST * (1 + KNEE / batch)) + rng.normal(0, noise, batch.size)
    log_steps += np.repeat(rng.normal(0, 1, design.batches), design.seeds) * design.tuning
    log_steps += rng.normal(0, 1, design.seeds)[seed] * design.shared
    last = design.budget * FEWEST * (1 + KNEE / sizes.max()) * sizes.max() / batch
    steps = np.exp(log_steps)
    return Simulated(
        batch=batch,
        steps=np.minimum(steps, last),
        censored=steps > last,
        seed=seed.tolist(),
        noise_sd=noise if design.known_noise else None,
    )


def coverage(name: str, studies: int, random_seed: int = 0) -> tuple[str, int, int, float]:
    """Return the name, how many intervals hold the true critical batch size, how many there are, and their width.

    The width is the median of ln(high / low), infinite where an end is open.
    """
    rng = np.random.default_rng([random_seed, list(DESIGNS).index(name)])
    covered, widths = 0, []
    for _ in range(studies):
        fit = simulate(DESIGNS[name], rng).fit()
        interval = fit.estimate("critical_batch").interval if fit.law.derived else None
        if interval is None:
            continue
        covered += interval.contains(KNEE)
        widths.append(math.log((interval.hi or math.inf) / interval.lo) if interval.lo else math.inf)
    return name, covered, len(widths), float(np.median(widths)) if widths else math.nan


def rows(studies: int) -> list[tuple[str, int, int, float]]:
    """Return name, covered, studies that got an interval, and its median width, for 95 % intervals."""
    return [coverage(name, studies) for name in DESIGNS]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="simulated studies for each row (default 100)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'coverage of the 95 % interval of the critical batch size':<58} covered  studies  median width of ln")
    for name, covered, studies, width in rows(options.studies):
        print(f"{name:<58} {covered / max(studies, 1):7.1%}  {studies:7d}  {width:.3f}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
