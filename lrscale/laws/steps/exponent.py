"""Whether the steps fall as 1 / batch: the exponent of the free hyperbola and its test against 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import ndtr, stdtr

from lrscale.laws.base import FloatArray
from lrscale.laws.steps.hyperbola import HIGHEST_EXPONENT, LOWEST_EXPONENT
from lrscale.laws.steps.knee import LEAST_SD, Knee, Noise, bend, places, profile, scatter
from lrscale.laws.steps.steps_data import Points, StepsData

_GAMMAS = np.exp(np.linspace(math.log(LOWEST_EXPONENT), math.log(HIGHEST_EXPONENT), 25))
_STEP = 0.4
# Each makes the steps of the exponent 4.5 times, and those of the knee 4 times smaller.
_REFINEMENTS, _ROUGH, _FINE = 4, 3, 8


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Exponent:
    """The exponent gamma of ``S_min + E / batch^gamma``."""

    value: float
    place: float
    """ln of the batch size at which both terms are equal."""
    lo: float | None
    hi: float | None
    p_value: float
    """Of gamma = 1, two-sided."""


def find_exponent(data: StepsData, knee: Knee, confidence: float) -> Exponent | None:
    """Return the exponent with its profile interval; None with fewer than four reached batch sizes.

    The noise is estimated anew about the free curve, unless it was stated: about the hyperbola it would hold the lack
    of fit that the test looks for.
    """
    if data.n_reached_cells < 4:
        return None
    sd, points = knee.noise.sd, data.merged()
    gammas = np.append(_GAMMAS, 1.0)
    gammas.sort()
    misfit, best = _profile(points, gammas, sd, _ROUGH)
    for _ in range(_REFINEMENTS):
        here = int(np.argmin(misfit))
        low, high = gammas[max(here - 1, 0)], gammas[min(here + 1, gammas.size - 1)]
        near = np.exp(np.linspace(math.log(low), math.log(high), 10)[1:-1])
        own, places_near = _profile(points, near, sd, _FINE)
        gammas, order = np.unique(np.concatenate([gammas, near]), return_index=True)
        misfit, best = np.concatenate([misfit, own])[order], np.concatenate([best, places_near])[order]
    here = int(np.argmin(misfit))
    noise = knee.noise
    if not math.isinf(noise.df):
        place, gamma = best[here : here + 1], gammas[here]
        level, _ = profile(points, bend(points.log_batch, place, gamma), sd)
        _, by_cell = scatter(data, level[0] + bend(data.log_batch, place, gamma)[0], sd)
        noise = Noise(sd=sd, variance=max(by_cell / (noise.df - 1), LEAST_SD**2), df=noise.df - 1)
    root = np.sqrt(np.maximum(misfit - misfit[here], 0.0) / noise.variance)
    signed = np.where(gammas < gammas[here], -root, root)
    signed[here:] = np.maximum.accumulate(signed[here:])
    signed[: here + 1] = np.minimum.accumulate(signed[here::-1])[::-1]
    reach = noise.quantile(confidence)
    away = abs(float(np.interp(1.0, gammas, signed)))
    return Exponent(
        value=float(gammas[here]),
        place=float(best[here]),
        lo=float(np.interp(-reach, signed, gammas)) if signed[0] < -reach else None,
        hi=float(np.interp(reach, signed, gammas)) if signed[-1] > reach else None,
        p_value=float(2 * (ndtr(-away) if math.isinf(noise.df) else stdtr(noise.df, -away))),
    )


def _profile(points: Points, gammas: FloatArray, sd: float, refinements: int) -> tuple[FloatArray, FloatArray]:
    """Return the least misfit over v for each exponent, and that v."""
    grid = places(points, _STEP)
    v = np.tile(grid, gammas.size)
    _, misfit = profile(points, bend(points.log_batch, v, np.repeat(gammas, grid.size)), sd)
    least = np.argmin(misfit.reshape(gammas.size, grid.size), axis=1)
    best = grid[least]
    lowest = np.empty(gammas.size)
    step = _STEP
    for _ in range(refinements):
        offsets = step * np.linspace(-1, 1, 9)
        v = (best[:, None] + offsets).ravel()
        _, misfit = profile(points, bend(points.log_batch, v, np.repeat(gammas, offsets.size)), sd)
        table = misfit.reshape(gammas.size, offsets.size)
        chosen = np.argmin(table, axis=1)
        best, lowest = best + offsets[chosen], table[np.arange(gammas.size), chosen]
        step /= 4
    return lowest, best
