"""Schedules and loss curves made step by step from the published formulas, for the tests of the annealing laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.annealing import Curve, LRTrace

FloatArray = NDArray[np.float64]

PEAK = 3e-4
# L0, A, alpha, C, lambda and L0, A, alpha, B, beta, gamma, C: near the published fits, for runs of about 1000 steps.
TISSUE = (2.8, 0.3, 0.45, 10.0, 0.97)
MULTI_POWER = (2.8, 0.3, 0.45, 475.0, 0.58, 0.65, 5.0)


def shape(name: str, steps: int = 900, warmup: int = 45) -> FloatArray:
    """Return the LR of every step as a fraction of the peak."""
    t = np.arange(1, steps + 1, dtype=np.float64)
    u = (t - warmup) / (steps - warmup)
    values = {
        "constant": np.ones(steps),
        "cosine": 0.1 + 0.45 * (1 + np.cos(np.pi * u)),
        "drop": np.where(t <= 0.4 * steps, 1.0, 0.3),
        "deep drop": np.where(t <= 0.6 * steps, 1.0, 0.1),
        "wsd": np.minimum(1.0, 0.05 + 0.95 * (steps - t) / (0.2 * steps)),
    }[name]
    return np.where(t < warmup, t / warmup, values)


def tissue(lr: FloatArray, warmup: int, step: FloatArray, params: Sequence[float]) -> FloatArray:
    """Return the law of Tissue et al. 2024 (arXiv:2408.11029) by its recursion."""
    level, progress, alpha, gain, kept = params
    momentum = total = 0.0
    totals = []
    for i, now in enumerate(lr):
        fall = lr[i - 1] - now if i >= warmup else 0.0
        momentum = kept * momentum + fall
        total += momentum
        totals.append(total)
    loss = level + progress * np.cumsum(lr) ** -alpha - gain * np.array(totals)
    return loss[step.astype(int) - 1]


def multi_power(lr: FloatArray, warmup: int, step: FloatArray, params: Sequence[float]) -> FloatArray:
    """Return the law of Luo et al. 2025 (arXiv:2503.12811) by its double sum."""
    level, progress, alpha, gain, beta, gamma, rate = params
    losses = []
    for t in step.astype(int):
        value = level + progress * lr[:t].sum() ** -alpha
        for k in range(max(warmup, 1), t):
            fall = lr[k - 1] - lr[k]
            if fall:
                value -= gain * fall * (1 - (1 + rate * lr[k] ** -gamma * lr[k:t].sum()) ** -beta)
        losses.append(value)
    return np.array(losses)


FORMULAS: dict[str, tuple[Callable[..., FloatArray], Sequence[float]]] = {
    "tissue": (tissue, TISSUE),
    "multi_power": (multi_power, MULTI_POWER),
}


def exact_curve(law: str, name: str, *, steps: int = 900, every: int = 40) -> Curve:
    """Return the noiseless curve of a law for one of the schedules."""
    formula, params = FORMULAS[law]
    lr = PEAK * shape(name, steps)
    step = np.arange(60.0, steps + 1, every)
    return Curve(name=name, trace=LRTrace.from_steps(lr), step=step, loss=formula(lr, 45, step, params))


def noisy(curve: Curve, rng: np.random.Generator, *, sd: float = 0.002, correlation: float = 0.6) -> Curve:
    """Return the curve with first-order autocorrelated noise."""
    noise = rng.normal(0, sd, curve.step.size)
    for i in range(1, noise.size):
        noise[i] = correlation * noise[i - 1] + np.sqrt(1 - correlation**2) * noise[i]
    return Curve(name=curve.name, trace=curve.trace, step=curve.step, loss=curve.loss + noise)


def rescaled(curve: Curve, *, loss: float = 1.0, lr: float = 1.0, steps: float = 1.0) -> Curve:
    """Return the same run in other units."""
    old = curve.trace
    trace = LRTrace(step=old.step * steps, lr=old.lr * lr, area=old.area * lr * steps)
    return Curve(name=curve.name, trace=trace, step=curve.step * steps, loss=curve.loss * loss)
