"""How far the prediction of a schedule may be off: draws from a mixed model of the fitted curves.

Points of one curve share their noise, seeds differ by an offset, and what the LR drops of a schedule gain departs from
any law by a fraction that belongs to the schedule. So the residuals are ``law's slopes x change of parameters +
fraction of the schedule x its gain + offset of the run + autoregressive noise``. The autocorrelation, the offsets and
the fraction are not known: a grid of them is weighed by the restricted likelihood of the curves (Patterson and Thompson
1971), so that curves which follow the law get narrow intervals, and curves which do not get wide ones.

References
----------
.. [1] Patterson, Thompson. "Recovery of inter-block information when block sizes are unequal." Biometrika 58 (1971).
.. [2] Gelman. "Prior distributions for variance parameters in hierarchical models." Bayesian Analysis 1 (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lrscale.laws.annealing.schedule_law import AbstractScheduleLaw
from lrscale.laws.base import MAD_TO_SD, FloatArray
from lrscale.laws.resample import even_uniforms

TYPICAL_MISFIT = 0.06
"""Fraction by which the gains of schedules depart from a law: between nine public schedules (Luo et al. 2025,
arXiv:2503.12811) it makes errors of 0.3 % of a final loss. Scale of a half-Cauchy prior, which gives way to the curves
(Gelman 2006)."""

DRAWS = 500
_MISFITS = np.geomspace(0.0005, 0.5, 16)
# Offset of a run over the noise of a point, with the same kind of prior around 1.
_OFFSETS = np.geomspace(0.05, 10.0, 9)
_CORRELATIONS = np.array([0.0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95])
# Residuals beyond this many robust standard deviations are drawn in to it, as in the fit.
_CLIP = 3.0
_STEP = 1e-5
# Prior precision of amplitudes: none to speak of, in the unit of the loss.
_FLAT = 1e-12


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """What a fit left of its curves."""

    gap: FloatArray
    """Observed minus fitted loss, (n,)."""
    run: NDArray[np.intp]
    """Curve of each point, in order, (n,)."""
    schedule: NDArray[np.intp]
    """Schedule of each point, (n,)."""


def slopes_of(law: AbstractScheduleLaw, params: FloatArray) -> FloatArray:
    """Return the derivative of the loss at the points of a bound law by each parameter, shape (n, p)."""
    lower = np.array([one.lower for one in law.parameters])
    upper = np.array([one.upper for one in law.parameters])
    step = _STEP * np.maximum(np.abs(params), 1e-2)
    above = np.minimum(params + np.diag(step), upper)
    below = np.maximum(params - np.diag(step), lower)
    rise = law.evaluate(above, law.rows) - law.evaluate(below, law.rows)
    slopes: FloatArray = rise.T / np.diag(above - below)
    return slopes


def gains_of(law: AbstractScheduleLaw, params: FloatArray) -> FloatArray:
    """Return what the LR drops have changed the loss by at the points of a bound law, shape (n,)."""
    columns = law.columns(params[None, list(law.shaping)], law.rows)[0]
    gains: FloatArray = columns[:, 2] * params[law.linear[2]]
    return gains


def draw_errors(law: AbstractScheduleLaw, params: FloatArray, left: Residuals) -> FloatArray:
    """Return draws of what a prediction errs by, shape (DRAWS, p + 3).

    Columns: change of each parameter, fraction of the gain, standard deviation of a new measurement, and a standard
    normal number for both.
    """
    scale = MAD_TO_SD * float(np.median(np.abs(left.gap)))
    floor = 1e-9 * float(np.max(np.abs(law.evaluate(params[None], law.rows))))
    gap = np.clip(left.gap, -_CLIP * max(scale, floor), _CLIP * max(scale, floor))
    slopes, gains = slopes_of(law, params), gains_of(law, params)
    schedules, runs = np.unique(left.schedule), np.unique(left.run)
    shares = np.where(left.schedule[:, None] == schedules, gains[:, None], 0.0)
    levels = (left.run[:, None] == runs).astype(np.float64)
    # A shape lies within its bounds, which is a prior; it decides where the curves leave a ridge.
    width = np.array([(one.upper - one.lower) / np.sqrt(12) for one in law.parameters])
    precision = np.diag(np.where(np.isfinite(width), width**-2.0, _FLAT))
    table = np.column_stack([slopes, shares, levels, gap])
    # The grids are even in logarithms.
    misfit, offset = (own.ravel() for own in np.meshgrid(_MISFITS, _OFFSETS, indexing="ij"))
    log_prior = np.log(misfit / (1 + (misfit / TYPICAL_MISFIT) ** 2) * offset / (1 + offset**2))
    parts: list[_Nodes] = []
    noises: list[FloatArray] = []
    for correlation in _CORRELATIONS:
        white, log_size = _whitened(table, np.flatnonzero(np.diff(left.run, prepend=-1)), float(correlation))
        rest = white[:, -1] - white[:, :-1] @ np.linalg.lstsq(white[:, :-1], white[:, -1], rcond=1e-10)[0]
        variance = max(float(rest @ rest) / max(gap.size - table.shape[1] + 1, 3), floor**2)
        gram = white.T @ white / variance
        point = math.sqrt(variance)
        sd = np.repeat(np.column_stack([misfit, point * offset]), [schedules.size, runs.size], axis=1)
        constant = log_size - 0.5 * gap.size * math.log(variance)
        parts.append(_weighed(gram, sd, precision, log_prior + constant))
        noises.append(point * np.hypot(1.0, offset))
    log_masses = np.concatenate([part.log_mass for part in parts])
    mass = np.cumsum(np.exp(log_masses - log_masses.max()))
    p = params.size
    even = even_uniforms(DRAWS, p + 2)
    chosen = np.searchsorted(mass / mass[-1], even[:, 0]).clip(max=mass.size - 1)
    root = np.linalg.cholesky(np.concatenate([part.information for part in parts])[chosen])
    step = np.linalg.solve(np.swapaxes(root, 1, 2), ndtri(even[:, 1 : p + 1])[..., None])[..., 0]
    return np.column_stack(
        [
            np.concatenate([part.shift for part in parts])[chosen] + step,
            misfit[chosen % misfit.size],
            np.concatenate(noises)[chosen],
            ndtri(even[:, -1]),
        ]
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """The parameters at m choices of the variances."""

    log_mass: FloatArray
    """(m,)"""
    shift: FloatArray
    """Their change from the fit, (m, p)."""
    information: FloatArray
    """Inverse of their covariance, (m, p, p)."""


def _whitened(table: FloatArray, fresh: NDArray[np.intp], correlation: float) -> tuple[FloatArray, float]:
    """Return rows without first-order autoregression and the logarithm of the volume; `fresh` rows begin a curve."""
    white = table.copy()
    white[1:] -= correlation * table[:-1]
    white /= math.sqrt(1 - correlation**2)
    # The first point of a curve has the variance of all.
    white[fresh] = table[fresh]
    return white, -0.5 * (len(table) - fresh.size) * math.log1p(-(correlation**2))


def _weighed(gram: FloatArray, sd: FloatArray, precision: FloatArray, log_prior: FloatArray) -> _Nodes:
    """Return the restricted likelihood and the parameters for standard deviations `sd` of the random effects, (m, q).

    `gram` holds the products of the whitened slopes, random effects and residuals, over the variance of the noise; the
    inverse covariance follows by Woodbury's formula from the random effects alone.
    """
    p, q = len(precision), sd.shape[1]
    inner, outer = slice(p, p + q), np.r_[:p, len(gram) - 1]
    held = np.eye(q) + sd[:, :, None] * gram[inner, inner] * sd[:, None, :]
    cross = sd[:, :, None] * gram[inner, outer]
    less = gram[np.ix_(outer, outer)] - np.swapaxes(cross, 1, 2) @ np.linalg.solve(held, cross)
    information = less[:, :p, :p] + precision
    shift = np.linalg.solve(information, less[:, :p, p:])[..., 0]
    square = less[:, p, p] - np.einsum("mp,mp->m", less[:, p, :p], shift)
    volume = np.linalg.slogdet(held)[1] + np.linalg.slogdet(information)[1]
    return _Nodes(log_mass=log_prior - 0.5 * (volume + square), shift=shift, information=information)


def errors_of(draws: FloatArray, law: AbstractScheduleLaw, params: FloatArray, furthest: float) -> FloatArray:
    """Return draws of the error at the points of a law that is bound to one new run, shape (r, n).

    `furthest` is the largest sum of LRs that was fitted, in the units of the law. What the run gains beyond it departs
    from the law by as large a fraction as what its drops gain.
    """
    p = params.size
    columns = law.columns(params[None, list(law.shaping)], law.rows)[0]
    ahead = np.minimum(columns[:, 1] - furthest ** -params[law.shaping[0]], 0.0) * params[law.linear[1]]
    moved = draws[:, :p] @ slopes_of(law, params).T
    off = draws[:, p, None] * np.hypot(gains_of(law, params), ahead)
    spread = np.hypot(off, draws[:, p + 1, None])
    errors: FloatArray = moved + spread * draws[:, p + 2, None]
    return errors
