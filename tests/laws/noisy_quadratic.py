"""SGD on a noisy quadratic: final losses of trials, and their expectation in closed form.

Source: Zhang et al. "Which algorithmic choices matter at which batch sizes? Insights from a noisy quadratic model."
arXiv:1907.04164 (2019): curvatures 1/i, gradient noise with the covariance of the curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrscale.laws import LRSliceFit, fit_lr_slice
from lrscale.laws.lr_slice.lr_search import LRSearch

FloatArray = NDArray[np.float64]
COPIES = 100
"""Coordinates of each curvature: the final loss of a trial then varies by about a tenth of what schedules differ by."""
CURVATURES: FloatArray = np.repeat(1.0 / np.arange(1, 13), COPIES)
RATIO = 2.0


@dataclass(frozen=True)
class Quadratic:
    """The problem at one batch size."""

    noise: float = 1.0
    """Standard deviation of the gradient noise per unit of square-root curvature; falls as one over root batch."""
    floor: float = 2.0
    """Loss at the minimum."""

    def expected(self, factors: FloatArray, peak_lr: float) -> float:
        """Return the expected final loss from unit distance: the second moment of every coordinate is a recursion."""
        curvatures = CURVATURES[::COPIES]
        moment = np.ones_like(curvatures)
        for factor in factors:
            lr = peak_lr * factor
            moment = (1 - lr * curvatures) ** 2 * moment + lr**2 * self.noise**2 * curvatures
        return self.floor + float(curvatures @ moment) / 2

    def best(self, factors: FloatArray) -> tuple[float, float]:
        """Return the best peak LR and the lowest expected loss, from a grid of 1 %."""
        peaks = np.exp(np.arange(np.log(1e-3), np.log(1.9), 0.01))
        losses = [self.expected(factors, float(peak)) for peak in peaks]
        at = int(np.argmin(losses))
        return float(peaks[at]), losses[at]

    def trial(self, factors: FloatArray, peak_lr: float, start: FloatArray, noise: FloatArray) -> float:
        """Return the final loss of one trial; infinity when it diverges."""
        place = start
        with np.errstate(over="ignore", invalid="ignore"):
            for factor, draw in zip(factors, noise, strict=True):
                gradient = CURVATURES * place + self.noise * np.sqrt(CURVATURES) * draw
                place = place - peak_lr * factor * gradient
            loss = self.floor + float(CURVATURES @ place**2) / (2 * COPIES)
        return loss if np.isfinite(loss) and loss < 10 * self.floor else np.inf


def compared(
    problem: Quadratic,
    schedules: Sequence[tuple[str, FloatArray]],
    rng: np.random.Generator,
    *,
    seeds: int,
    own_noise: float = 0.0,
    start: int = -2,
    resamples: int = 100,
) -> dict[str, LRSliceFit]:
    """Search and fit each schedule as a comparison does, seeds paired.

    Parameters
    ----------
    own_noise : float
        Share of the variance of the gradient noise that each schedule has to itself; 0: the noise of a seed is common.
    start : int
        Power of two in the middle of the first LRs.
    """
    steps = len(schedules[0][1])
    starts = [rng.standard_normal(CURVATURES.size) for _ in range(seeds)]
    common = [rng.standard_normal((steps, CURVATURES.size)) for _ in range(seeds)]
    fits = {}
    for name, factors in schedules:
        own = [rng.standard_normal((steps, CURVATURES.size)) for _ in range(seeds)]
        noise = [np.sqrt(1 - own_noise) * c + np.sqrt(own_noise) * o for c, o in zip(common, own, strict=True)]
        search = LRSearch(seeds=seeds, most=8, lowest=-30, highest=10)
        losses: dict[tuple[float, int], float] = {}
        while new := [key for key in search.next(losses, start) if key not in losses]:
            for index, seed in new:
                losses[index, seed] = problem.trial(factors, RATIO**index, starts[seed], noise[seed])
        fits[name] = fit_lr_slice(
            [RATIO**index for index, _ in losses],
            list(losses.values()),
            seed=[seed for _, seed in losses],
            resamples=resamples,
        )
    return fits
