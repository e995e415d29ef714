"""Sweeps with a known optimum at every scale, for tests and benchmarks of forecasts."""

from __future__ import annotations

import numpy as np

from lrscale.laws.forecast import ForecastCell
from lrscale.laws.lr_slice.basin import basin

LR, BATCH = (-0.6, 0.25), (0.1, 0.5)
"""Exponents of (params, horizon)."""


def optimum(params: float, horizon: float) -> tuple[float, float]:
    """The true best LR and batch."""
    size, length = np.log(params / 1e8), np.log(horizon / 1e10)
    return (
        float(2e-3 * np.exp(LR[0] * size + LR[1] * length)),
        float(2.5e5 * np.exp(BATCH[0] * size + BATCH[1] * length)),
    )


def lowest(params: float, horizon: float) -> float:
    """The true loss at the optimum, of the Chinchilla form."""
    return float(1.8 + 480 / params**0.35 + 2080 / horizon**0.37)


def loss(params: float, horizon: float, lr: float, batch: float) -> float:
    """The true loss of a setting. The surface is another than that of the fit: the path bends, the valley is skewed."""
    best_lr, best_batch = optimum(params, horizon)
    away = np.log(batch / best_batch)
    path = 0.6 * min(away + 0.3, 0.0)
    valley = 0.045 * basin(np.log(lr / best_lr) - path, 0.4, 1.3) + 0.02 * basin(away, 0.3, 0.7)
    return float(lowest(params, horizon) + valley)


def sweep(
    params: float,
    horizon: float,
    rng: np.random.Generator,
    *,
    runs: int = 8,
    noise: float = 0.003,
    scatter: float = 0.0,
) -> ForecastCell:
    """A cell of `runs` runs around a start that is off by a factor, as a search leaves them."""
    lr, batch = optimum(params, horizon)
    shift = np.exp(scatter * rng.standard_normal(2))
    u = np.concatenate([np.linspace(-1.2, 1.2, 5), rng.uniform(-0.8, 0.8, runs - 5)]) + rng.uniform(-0.3, 0.3)
    v = np.concatenate([[0.0, 0.7, 0.0, -0.7, 0.0], rng.uniform(-1.4, 1.4, runs - 5)]) + rng.uniform(-0.3, 0.3)
    lrs, batches = lr * shift[0] * np.exp(u), batch * shift[1] * np.exp(v)
    losses = [
        loss(params, horizon, own / shift[0], size / shift[1]) + noise * rng.standard_normal()
        for own, size in zip(lrs, batches, strict=True)
    ]
    return ForecastCell(
        label=f"{params:.3g} at {horizon:.3g}",
        params=params,
        horizon=horizon,
        lr=tuple(lrs.tolist()),
        batch=tuple(batches.tolist()),
        loss=tuple(losses),
    )
