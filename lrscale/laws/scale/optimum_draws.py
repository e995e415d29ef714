"""Fit one law of an optimum, with draws of its parameters and of the scatter of cells about it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from lrscale.laws.base import FloatArray
from lrscale.laws.resample import cluster_weights
from lrscale.laws.scale.loss_draws import spread
from lrscale.laws.scale.optimum_law import AbstractOptimumLaw, PowerOptimum
from lrscale.laws.scale.tobit import Cells, information, minimise, terms

# Scatter of cells about the law, in ln: 120 slices of a public study (Li et al., arXiv:2503.04715) scatter by 0.17
# about the best law. Half-Cauchy: half of the prior lies below this scale, and its tail gives way to data that
# scatter more (Gelman 2006).
_SCATTER = 0.17
_SCATTERS = np.geomspace(0.003, 3.0, 49)
# Proposals for each draw, and the degrees of freedom of the proposal, where censored cells bend the likelihood.
_OVERSAMPLING = 8
_PROPOSAL_DF = 5.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimumEstimate:
    """A law of an optimum, fitted."""

    law: AbstractOptimumLaw
    theta: FloatArray
    """(p,)"""
    scatter: float
    """Standard deviation of cells about the law beyond their own variance."""
    log_likelihood: float
    """The highest over parameters and scatter."""
    modes: FloatArray
    """Best parameters at each scatter of the grid, (s, p)."""
    mass: FloatArray
    """Posterior mass of each scatter, (s,)."""
    draws: FloatArray
    """(r, p); empty before `with_draws`."""
    scatter_draws: FloatArray
    """(r,)"""

    def aicc(self, n: int) -> float | None:
        """Return Akaike's criterion for n cells; the scatter counts as a parameter."""
        k = self.theta.size + 1
        if n - k - 1 <= 0:
            return None
        return -2 * self.log_likelihood + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def with_draws(
    found: OptimumEstimate,
    cells: Cells,
    clusters: Sequence[Hashable],
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> OptimumEstimate:
    """Return an estimate with draws of its parameters.

    One cell in each cluster and a power law: draws of the posterior with flat priors of the exponents and a half-Cauchy
    prior of the scatter. Several cells in a cluster, or a law that bends: a Bayesian bootstrap over clusters, widened
    for few of them, at the estimated scatter.

    References
    ----------
    .. [1] Gelman. "Prior distributions for variance parameters in hierarchical models." Bayesian Analysis 1 (2006).
    """
    law, count = found.law, len(set(clusters))
    if isinstance(law, PowerOptimum) and count == len(clusters):
        draws, scatters = _posterior(found, cells, resamples, rng)
    else:
        # What slices of one cell determine between them takes no degree of freedom from the differences of cells.
        size = len(law.parameters) if count == len(clusters) else law.between
        weights = cluster_weights(clusters, resamples, rng, spread=spread(count, size, confidence))
        variance = np.broadcast_to(cells.variance + found.scatter**2, weights.shape)
        draws = minimise(law, cells, np.repeat(found.theta[None], resamples, axis=0), variance, weights)[0]
        scatters = np.full(resamples, found.scatter)
    return replace(found, draws=draws, scatter_draws=scatters)


def estimate(law: AbstractOptimumLaw, cells: Cells) -> OptimumEstimate:
    """Fit a law without drawing: at every scatter of a grid, and at the posterior median of the scatter."""
    n = cells.y.size
    seen = cells.rows(cells.observed)
    # Censored cells come in once the observed ones have said where to look.
    starts = law.starts(seen.x, seen.y, 1 / (seen.variance + _SCATTER**2))
    variance = np.broadcast_to(cells.variance + _SCATTER**2, (len(starts), n))
    reached, loss = minimise(law, cells, starts, variance, np.ones((len(starts), n)))
    best = reached[np.argmin(loss)]
    table = cells.variance + _SCATTERS[:, None] ** 2
    modes, losses = minimise(law, cells, np.repeat(best[None], _SCATTERS.size, axis=0), table, np.ones_like(table))
    bend = information(law, cells, modes, table)
    size = bend.shape[1]
    jitter = 1e-10 * np.einsum("mpp->mp", bend).max(axis=1)[:, None, None] * np.eye(size)
    log_mass = -losses - 0.5 * np.linalg.slogdet(bend + jitter)[1]
    # The grid is even in the logarithm of the scatter.
    log_mass = log_mass + np.log(_SCATTERS) - np.log1p((_SCATTERS / _SCATTER) ** 2)
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    middle = int(np.searchsorted(np.cumsum(mass), 0.5))
    return OptimumEstimate(
        law=law,
        theta=modes[middle],
        scatter=float(_SCATTERS[middle]),
        log_likelihood=-float(losses.min()),
        modes=modes,
        mass=mass,
        draws=np.empty((0, size)),
        scatter_draws=np.empty(0),
    )


def _posterior(
    found: OptimumEstimate, cells: Cells, resamples: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    law, modes, mass = found.law, found.modes, found.mass
    censored = bool((~cells.observed).any())
    count = resamples * (_OVERSAMPLING if censored else 1)
    # Even steps through the distribution of the scatter, in random order, instead of random ones: less noise.
    place = np.searchsorted(np.cumsum(mass), (np.arange(count) + 0.5) / count).clip(max=mass.size - 1)
    place = rng.permutation(place)
    table = cells.variance + _SCATTERS[:, None] ** 2
    root = np.linalg.cholesky(information(law, cells, modes, table))
    normal = rng.standard_normal((count, modes.shape[1]))
    stretch = np.ones(count)
    if censored:
        stretch = np.sqrt(_PROPOSAL_DF / rng.chisquare(_PROPOSAL_DF, count))
    step = np.linalg.solve(np.swapaxes(root[place], 1, 2), normal[..., None])[..., 0]
    draws = modes[place] + stretch[:, None] * step
    if not censored:
        return draws, _SCATTERS[place]
    # Importance resampling: the target at fixed scatter is exp(-loss), the proposal a Student's t at its mode.
    loss = np.sum(terms(law.value(draws, cells.x), cells, table[place])[0], axis=1)
    at_mode = np.sum(terms(law.value(modes, cells.x), cells, table)[0], axis=1)
    size = modes.shape[1]
    distance = np.sum((stretch[:, None] * normal) ** 2, axis=1)
    log_weight = at_mode[place] - loss + 0.5 * (_PROPOSAL_DF + size) * np.log1p(distance / _PROPOSAL_DF)
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(count, resamples, p=weight / weight.sum())
    return draws[chosen], _SCATTERS[place[chosen]]
