"""Simulated slices with known truth, for the tests of the laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.lr_slice.basin import basin

FloatArray = NDArray[np.float64]

SHAPES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "own model": lambda u: 2 * basin(u, 0.5, 1.0),
    "cubic skew": lambda u: u**2 + 0.15 * u**3,
    "parabola": lambda u: u**2,
    "wall": lambda u: u**2 + 0.3 * np.expm1(np.maximum(4 * (u - 1.5), 0)),
}


def grid(n: int, centre: float = 0.0, ratio: float = 2.0) -> FloatArray:
    """Return n LRs at a constant ratio, around exp(centre)."""
    return np.exp(centre + (np.arange(n) - (n - 1) / 2) * np.log(ratio))


def study(
    shape: str, rng: np.random.Generator, *, lrs: int, seeds: int, noise: float, curvature: float, level: float = 3.0
) -> tuple[FloatArray, FloatArray, NDArray[np.int_], float]:
    """Return LRs, losses, seeds and the true best LR (within one grid step of the middle) of one noisy slice."""
    best = rng.uniform(-0.5, 0.5) * np.log(2)
    lr = np.tile(grid(lrs), seeds)
    seed = np.repeat(np.arange(seeds), lrs)
    loss = level + curvature * SHAPES[shape](np.log(lr) - best) + 2 * noise * rng.standard_normal(seeds)[seed]
    return lr, loss + noise * rng.standard_normal(lr.size), seed, float(np.exp(best))
