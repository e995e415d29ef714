"""Coverage of the interval of the gradient noise scale, on noisy quadratics whose noise and gradients are known.

Run ``python benchmarks/coverage_noise_scale.py --studies 1000``. Each study trains by SGD on a quadratic whose
micro-gradients carry Gaussian noise of a known covariance, and measures along the way. What must be covered is the
ratio of tr(Sigma) to the average of ``|G|^2`` over the steps that were taken. Where the gradient is not resolved only a
lower bound is given, whose own confidence is (1 + confidence) / 2: 90 % is asked for there, so that the row counts
bounds of 95 %.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.noise_scale.estimate import noise_scale
from lrscale.laws.noise_scale.gradient_sums import GradientSums

FloatArray = NDArray[np.float64]

DIMENSION = 40


@dataclass(frozen=True)
class Case:
    """A noisy quadratic and how it is measured."""

    name: str
    start: float
    """Distance of each parameter from the minimum."""
    lr: float
    steps: int
    counts: tuple[int, ...]
    """Micro-gradients of the steps, in turns."""
    examples: tuple[float, ...]
    """Examples of a micro-gradient, in the same turns."""
    floor: float = 0.0
    """Gradient in every direction that does not go away."""
    confidence: float = 0.95
    """What the estimate is asked for."""


CASES = (
    Case("constant gradient, 2 x 8", 0.0, 0.0, 300, (2,), (8,), floor=0.5),
    Case("constant gradient, 8 x 2", 0.0, 0.0, 300, (8,), (2,), floor=0.5),
    Case("constant gradient, 40 steps", 0.0, 0.0, 40, (4,), (8,), floor=0.6),
    Case("descent to the noise floor, 4 x 8", 2.0, 0.02, 400, (4,), (8,), floor=0.2),
    Case("stationary noise, 4 x 8", 0.0, 0.3, 600, (4,), (8,), floor=0.25),
    Case("layouts mixed, 2 x 16 and 8 x 4 and 4 x 3", 1.0, 0.02, 450, (2, 8, 4), (16, 4, 3), floor=0.3),
    Case("hardly resolved, 4 x 4", 0.0, 0.0, 300, (4,), (4,), floor=0.16),
    Case("not resolved, 2 x 4, lower bound", 0.0, 0.0, 200, (2,), (4,), floor=0.05, confidence=0.9),
)


def simulate(case: Case, rng: np.random.Generator) -> tuple[GradientSums, float]:
    """Return the sums of one run, and its true noise scale."""
    curvature = np.geomspace(0.2, 1.0, DIMENSION)
    sd = np.geomspace(0.5, 2.0, DIMENSION)[::-1]
    # Noise of the gradient is what Gaussian examples give, one row a micro-gradient.
    place = np.full(DIMENSION, case.start)
    counts = np.resize(case.counts, case.steps).astype(np.float64)
    examples = np.resize(case.examples, case.steps).astype(np.float64)
    mean_square, square_mean, truth = np.empty((3, case.steps))
    for step in range(case.steps):
        true = curvature * place + case.floor
        gradients = true + rng.normal(size=(int(counts[step]), DIMENSION)) * sd / np.sqrt(examples[step])
        mean = gradients.mean(axis=0)
        mean_square[step] = np.einsum("ij,ij->", gradients, gradients) / counts[step]
        square_mean[step] = mean @ mean
        truth[step] = true @ true
        place = place - case.lr * (mean - case.floor)
    sums = GradientSums(
        step=np.arange(case.steps), count=counts, examples=examples, mean_square=mean_square, square_mean=square_mean
    )
    weight = sums.weight
    return sums, float(np.sum(sd**2) * weight.sum() / (weight @ truth))


def row(case: Case, studies: int, random_seed: int = 0) -> tuple[str, int, int, float]:
    """Return name, covered, studies, and the median width of two-sided intervals over the true value (NaN: none)."""
    rng = np.random.default_rng([random_seed, CASES.index(case)])
    covered, widths = 0, []
    for _ in range(studies):
        sums, truth = simulate(case, rng)
        interval = noise_scale(sums, confidence=case.confidence).interval
        assert interval is not None and interval.lo is not None
        covered += interval.contains(truth)
        if interval.hi is not None:
            widths.append((interval.hi - interval.lo) / truth)
    return case.name, covered, studies, float(np.median(widths)) if widths else float("nan")


def rows(studies: int) -> list[tuple[str, int, int, float]]:
    """Return name, covered, studies and median relative width, for 95 % intervals."""
    return [row(case, studies) for case in CASES]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated runs for each row (default 1000)")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{'coverage of the 95 % interval of the noise scale':<48} covered  studies  median width / value")
    for name, covered, studies, width in rows(options.studies):
        print(f"{name:<48} {covered / max(studies, 1):7.1%}  {studies:7d}  {width:.3f}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
