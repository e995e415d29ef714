"""Simulated steps to a target with a known knee."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

KNEE, FEWEST = 1000.0, 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    batch: FloatArray
    steps: FloatArray
    censored: NDArray[np.bool_]


def runs(
    rng: np.random.Generator,
    *,
    place: FloatArray,
    seeds: int = 1,
    noise: float = 0.05,
    tuning: float = 0.0,
    budget: float = np.inf,
) -> Runs:
    """Return runs at batch sizes ``KNEE * place`` that stop after `budget` times the data of the largest batch size."""
    sizes = KNEE * np.asarray(place, dtype=np.float64)
    batch = np.repeat(sizes, seeds)
    shared = np.repeat(rng.normal(0, tuning, sizes.size), seeds)
    steps = FEWEST * (1 + KNEE / batch) * np.exp(shared + rng.normal(0, noise, batch.size))
    last = budget * FEWEST * (sizes.max() + KNEE) / batch
    return Runs(batch=batch, steps=np.minimum(steps, last), censored=steps > last)
