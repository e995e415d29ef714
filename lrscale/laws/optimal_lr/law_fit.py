"""Fit a law of the best LR to vertices with known variances, some of them censored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from lrscale.laws.base import AbstractLaw, FloatArray

_NEWTON_STEPS = 40
# In ln(LR); far below the 5 % to which a law is believed.
_CLOSE = 1e-4
_REFINEMENTS = 2
_FINER = 10
_LOG_2PI = float(np.log(2 * np.pi))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Vertices:
    """The vertices of several slices, in ln(LR)."""

    batch: FloatArray
    """Batch size of each slice, shape (n,)."""
    y: FloatArray
    """ln(best LR), or the bound where the slice is censored, shape (n,)."""
    variance: FloatArray
    """Its variance, lack of fit included, shape (n,)."""
    side: NDArray[np.int_]
    """0: observed; +1: the vertex lies above y; -1: below; shape (n,)."""

    def without(self, i: int) -> Vertices:
        """Return the vertices of the other slices."""
        keep = np.arange(self.y.size) != i
        return Vertices(batch=self.batch[keep], y=self.y[keep], variance=self.variance[keep], side=self.side[keep])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LawEstimate:
    """Maximum-likelihood parameters."""

    params: FloatArray
    """Shape (n_parameters,); the first is the amplitude (an LR)."""
    log_likelihood: float
    at_end: bool
    """Whether the first shape parameter sits at an end of its line."""


def fit_law(law: AbstractLaw, data: Vertices) -> LawEstimate:
    """Fit by maximum likelihood: Gaussian terms for observed vertices, Tobit terms for censored ones.

    The amplitude is solved for at every candidate of the law's shape (closed form, or Newton's method with censored
    slices: the likelihood is concave in it), and the maximum along a line of candidates is interpolated by a parabola.

    References
    ----------
    .. [1] Tobin. "Estimation of Relationships for Limited Dependent Variables." Econometrica 26 (1958).
    """
    shapes = law.shape_grid(data.batch)
    found = _fit_on(law, data, shapes, law.line_length)
    if law.line_length > 1 and not found.at_end:
        line = np.log(shapes[:2, 0]) if law.log_spaced else shapes[:2, 0]
        step = float(line[1] - line[0])
        for _ in range(_REFINEMENTS):
            centre = math.log(found.params[1]) if law.log_spaced else float(found.params[1])
            near = centre + step * np.linspace(-1, 1, 2 * _FINER + 1)
            finer = np.repeat(found.params[None, 1:], near.size, axis=0)
            finer[:, 0] = np.exp(near) if law.log_spaced else near
            found = _fit_on(law, data, finer, near.size)
            step /= _FINER
    return found


def _fit_on(law: AbstractLaw, data: Vertices, shapes: FloatArray, length: int) -> LawEstimate:
    offset, likelihood = _profile(law.log_shape(shapes, data.batch), data)
    best = int(np.argmax(likelihood))
    if length == 1:
        params = np.concatenate([[math.exp(offset[best])], shapes[best]])
        return LawEstimate(params=params, log_likelihood=float(likelihood[best]), at_end=False)
    place = best % length
    low, high = place == 0, place == length - 1
    centre = best + low - high
    left, middle, right = (float(likelihood[centre + step]) for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = min(max(0.5 * (left - right) / bend, -1.0), 1.0) if bend < 0 else 0.0
    if low or high:
        shift = -1.0 if low else 1.0
    params = np.concatenate([[math.exp(_parabola(offset[centre - 1 : centre + 2], shift))], shapes[centre]])
    line = np.log(shapes[:, 0]) if law.log_spaced else shapes[:, 0]
    moved = float(line[centre]) + shift * float(line[1] - line[0])
    params[1] = math.exp(moved) if law.log_spaced else moved
    top = _parabola(likelihood[centre - 1 : centre + 2], shift)
    return LawEstimate(params=params, log_likelihood=top, at_end=low or high)


def _parabola(values: FloatArray, at: float) -> float:
    left, middle, right = (float(value) for value in values)
    return middle + 0.5 * (right - left) * at + 0.5 * (left - 2 * middle + right) * at * at


def _profile(log_shape: FloatArray, data: Vertices) -> tuple[FloatArray, FloatArray]:
    """Return the best log amplitude and its log-likelihood, each of shape (candidates,)."""
    seen = data.side == 0
    weight = np.where(seen, 1 / data.variance, 0.0)
    total = float(weight.sum())
    offset = (data.y - log_shape) @ weight / total
    censored = np.flatnonzero(~seen)
    if censored.size:
        sd = np.sqrt(data.variance[censored])
        side = data.side[censored].astype(np.float64)
        gap = log_shape[:, censored] - data.y[censored]
        offset = _with_censored(offset, total, gap, side, sd)
    residual = data.y - offset[:, None] - log_shape
    constant = -0.5 * float(np.sum(_LOG_2PI + np.log(data.variance[seen])))
    likelihood = constant - 0.5 * residual**2 @ weight
    if censored.size:
        likelihood = likelihood + np.sum(log_ndtr(side * (offset[:, None] + gap) / sd), axis=-1)
    return offset, likelihood


def _with_censored(start: FloatArray, total: float, gap: FloatArray, side: FloatArray, sd: FloatArray) -> FloatArray:
    """Move the log amplitudes to the maximum of Gaussian plus Tobit terms.

    The derivative falls monotonically, so Newton's method is kept inside a bracket of its root.
    """
    reach = 10 * float(np.max(sd)) + 10 / math.sqrt(total)
    lower = np.minimum(start, np.min(-gap, axis=-1)) - reach
    upper = np.maximum(start, np.max(-gap, axis=-1)) + reach
    offset = start
    for _ in range(_NEWTON_STEPS):
        z = side * (offset[..., None] + gap) / sd
        hazard = np.exp(-0.5 * z * z - 0.5 * _LOG_2PI - log_ndtr(z))
        slope = total * (start - offset) + np.sum(side * hazard / sd, axis=-1)
        bend = total + np.sum(np.maximum(hazard * (hazard + z), 0.0) / sd**2, axis=-1)
        lower, upper = np.where(slope > 0, offset, lower), np.where(slope > 0, upper, offset)
        moved = offset + slope / bend
        moved = np.where((moved > lower) & (moved < upper), moved, (lower + upper) / 2)
        largest = float(np.max(np.abs(moved - offset)))
        offset = moved
        if largest < _CLOSE:
            break
    return offset


def best_log_amplitude(log_shape: FloatArray, data: Vertices) -> FloatArray:
    """Return the log amplitude of highest likelihood for each row of log shapes, shape (candidates,)."""
    return _profile(log_shape, data)[0]


def chi_squared(law: AbstractLaw, data: Vertices, params: FloatArray) -> float:
    """Return the weighted sum of squared residuals of the observed slices."""
    seen = data.side == 0
    residual = data.y - np.log(law.predict(params, data.batch))
    return float(np.sum(residual[seen] ** 2 / data.variance[seen]))


def leave_one_out(law: AbstractLaw, data: Vertices) -> float:
    """Return the root mean square error, in ln(LR), of predicting each observed slice from the others."""
    errors = []
    for i in np.flatnonzero(data.side == 0):
        rest = data.without(int(i))
        if np.sum(rest.side == 0) < min(law.n_parameters, 2):
            continue
        params = fit_law(law, rest).params
        errors.append(data.y[i] - float(np.log(law.predict(params, data.batch[i : i + 1])[0])))
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else float("nan")
