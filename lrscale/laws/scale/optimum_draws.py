"""Fit one law of an optimum, with draws of its parameters and of the scatter of cells about it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy.special import ndtri

from lrscale.laws.base import FloatArray
from lrscale.laws.resample import cluster_weights, even_uniforms
from lrscale.laws.scale.loss_draws import spread
from lrscale.laws.scale.optimum_law import AbstractOptimumLaw, PowerOptimum
from lrscale.laws.scale.scatter import SCATTERS, scattered
from lrscale.laws.scale.tobit import Cells, information, minimise, terms

# Where a search starts: 120 slices of a public study (Li et al., arXiv:2503.04715) scatter by this much, in ln, about
# the best law.
_SCATTER = 0.17
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

    Where every cell is observed: generalised inference (see `scattered`), which also sets the parameters to those of
    the median scatter. With censored cells, one cell in each cluster and a power law: draws of the posterior under the
    reference prior. With censored cells otherwise: a Bayesian bootstrap over clusters, widened for few of them, at the
    estimated scatter.
    """
    law, count = found.law, len(set(clusters))
    if cells.observed.all():
        drawn = scattered(law, cells, clusters, found.theta, resamples=resamples, rng=rng)
        return replace(
            found, theta=drawn.theta, scatter=drawn.scatter, draws=drawn.draws, scatter_draws=drawn.scatter_draws
        )
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
    """Fit a law without drawing: at every scatter of a grid, and at the posterior median of the scatter.

    References
    ----------
    .. [1] Berger, Deely. "A Bayesian approach to ranking and selection of related means." JASA 83 (1988).
    .. [2] Bodnar, Link, Arendacka, Possolo, Elster. "Bayesian estimation in random effects meta-analysis using a
       non-informative prior." Statistics in Medicine 36 (2017).
    """
    n = cells.y.size
    seen = cells.rows(cells.observed)
    # Censored cells come in once the observed ones have said where to look.
    starts = law.starts(seen.x, seen.y, 1 / (seen.variance + _SCATTER**2))
    variance = np.broadcast_to(cells.variance + _SCATTER**2, (len(starts), n))
    reached, loss = minimise(law, cells, starts, variance, np.ones((len(starts), n)))
    best = reached[np.argmin(loss)]
    table = cells.variance + SCATTERS[:, None] ** 2
    modes, losses = minimise(law, cells, np.repeat(best[None], SCATTERS.size, axis=0), table, np.ones_like(table))
    bend = information(law, cells, modes, table)
    size = bend.shape[1]
    jitter = 1e-10 * np.einsum("mpp->mp", bend).max(axis=1)[:, None, None] * np.eye(size)
    log_mass = -losses - 0.5 * np.linalg.slogdet(bend + jitter)[1]
    # The reference prior of a scatter s beside known variances v is s sqrt(sum (v + s^2)^-2): 1 / s where the scatter
    # outweighs them, which matches Student's t, and even in s^2 where it does not. The grid is even in log s.
    known = seen.variance + SCATTERS[:, None] ** 2
    log_mass = log_mass + 2 * np.log(SCATTERS) + 0.5 * np.log(np.sum(known**-2, axis=1))
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    middle = int(np.searchsorted(np.cumsum(mass), 0.5))
    return OptimumEstimate(
        law=law,
        theta=modes[middle],
        scatter=float(SCATTERS[middle]),
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
    count = resamples * _OVERSAMPLING
    even = even_uniforms(count, 1 + modes.shape[1])
    place = np.searchsorted(np.cumsum(mass), even[:, 0]).clip(max=mass.size - 1)
    table = cells.variance + SCATTERS[:, None] ** 2
    root = np.linalg.cholesky(information(law, cells, modes, table))
    normal = ndtri(even[:, 1:])
    stretch = np.sqrt(_PROPOSAL_DF / rng.chisquare(_PROPOSAL_DF, count))
    step = np.linalg.solve(np.swapaxes(root[place], 1, 2), normal[..., None])[..., 0]
    draws = modes[place] + stretch[:, None] * step
    # Importance resampling: the target at fixed scatter is exp(-loss), the proposal a Student's t at its mode.
    loss = np.sum(terms(law.value(draws, cells.x), cells, table[place])[0], axis=1)
    at_mode = np.sum(terms(law.value(modes, cells.x), cells, table)[0], axis=1)
    size = modes.shape[1]
    distance = np.sum((stretch[:, None] * normal) ** 2, axis=1)
    log_weight = at_mode[place] - loss + 0.5 * (_PROPOSAL_DF + size) * np.log1p(distance / _PROPOSAL_DF)
    weight = np.exp(log_weight - log_weight.max())
    steps = (np.arange(resamples) + rng.uniform()) / resamples
    chosen = rng.permutation(np.searchsorted(np.cumsum(weight) / weight.sum(), steps).clip(max=count - 1))
    return draws[chosen], SCATTERS[place[chosen]]
