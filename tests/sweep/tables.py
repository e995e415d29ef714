"""Tables of runs with known optima."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

LRS = tuple(2.0**-k for k in range(12, 3, -1))
BATCHES = (16, 64, 256, 1024)
STEP_BATCHES = (32, 64, 128, 256, 512, 1024)
STEPS = 2000
PEAK = 1e-3
AT = np.arange(20, STEPS + 1, 20)


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


def steps(*, fewest: float = 200.0, least: float = 64_000.0, noise: float = 0.0, seeds: int = 1) -> pd.DataFrame:
    """Steps on a hyperbola whose critical batch size is ``least / fewest``."""
    rng = np.random.default_rng(0)
    rows = [
        {"bs": batch, "seed": seed, "steps_to_target": (fewest + least / batch) * np.exp(noise * rng.standard_normal())}
        for batch in STEP_BATCHES
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def shape(name: str) -> np.ndarray:
    place = np.arange(STEPS)
    return {
        "constant": np.ones(STEPS),
        "drop": np.where(place < 1200, 1.0, 0.2),
        "late drop": np.where(place < 1600, 1.0, 0.3),
        "linear": 1 - 0.9 * place / STEPS,
    }[name]


def curves(*names: str, model: str = "small", floor: float = 2.0, noise: float = 1e-3) -> pd.DataFrame:
    """Curves of the annealing law without momentum: each drop pays at once."""
    rng = np.random.default_rng(len(names))
    parts = []
    for name in names:
        lr = PEAK * shape(name)
        loss = floor + 0.8 * np.cumsum(lr)[AT - 1] ** -0.5 + 60 * (lr[AT - 1] - PEAK)
        parts.append(
            pd.DataFrame(
                {
                    "model": model,
                    "run": name,
                    "step": AT,
                    "lr": lr[AT - 1],
                    "val_loss": loss * np.exp(noise * rng.standard_normal(AT.size)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as CSV."""
    frame.to_csv(path, index=False)
    return path
