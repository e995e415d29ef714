"""Tables of runs with known optima."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

LRS = tuple(2.0**-k for k in range(12, 3, -1))
BATCHES = (16, 64, 256, 1024)


def best_lr(batch: float, scale: float = 1.0) -> float:
    """A best LR that grows as the square root of the batch size."""
    return 1e-3 * scale * float(np.sqrt(batch))


def sweep(
    *, batches: tuple[float, ...] = BATCHES, scale: float = 1.0, floor: float = 2.0, noise: float = 1e-3, seed: int = 0
) -> pd.DataFrame:
    """One run at every (LR, batch size): ``loss = floor + (basin in ln LR) + a batch term lowest at 64``."""
    rng = np.random.default_rng(seed)
    rows = []
    for batch in batches:
        for lr in LRS:
            away = lr / best_lr(batch, scale)
            loss = floor + 0.05 * (away**0.7 + away**-0.7) + 0.02 * abs(np.log(batch / 64))
            rows.append({"lr": lr, "batch_size": batch, "loss": loss + noise * rng.standard_normal()})
    return pd.DataFrame(rows)


def grid(
    *, sizes: tuple[float, ...] = (1e8, 2e8, 4e8, 1.6e9), horizons: tuple[float, ...] = (4e9, 1.6e10)
) -> pd.DataFrame:
    """A sweep for each model size and horizon; the best LR falls as params^-0.4."""
    parts = []
    for place, params in enumerate(sizes):
        for other, tokens in enumerate(horizons):
            part = sweep(
                scale=(params / 1e8) ** -0.4,
                floor=1.5 + 80 / params**0.3 + 100 / tokens**0.3,
                seed=10 * place + other,
            )
            parts.append(part.assign(params=params, tokens=tokens))
    return pd.concat(parts, ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as CSV."""
    frame.to_csv(path, index=False)
    return path
