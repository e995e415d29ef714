"""The LR basin: the shape of final loss against log LR, and the posterior of where its minimum lies.

The model is ``loss = A lr^-p + B lr^q + C`` with non-negative A and B. Written around its minimum x0 = log(best LR) it
is

    loss = level + curvature * basin(x - x0; p, q)
    basin(u; p, q) = [(e^(-p u) - 1) / p + (e^(q u) - 1) / q] / (p + q)

where basin has value 0, slope 0 and second derivative 1 at u = 0. For p, q -> 0 it is the parabola u^2 / 2; q - p is
the skew (third derivative). Given (x0, p, q) the rest is linear, so the two linear unknowns are projected out in closed
form (variable projection; Golub and Pereyra 1973) and the posterior is evaluated on a grid of (x0, p, q), without
sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from lrscale.laws.base import FloatArray

# Low side: losses fall like lr^-p with p up to 1 (p = q = 1 is the convex bound of Schaipp et al. 2025,
# arXiv:2501.18965). High side: the wall before divergence is steeper, hence q up to 3. The skew q - p then spans -0.75
# to 2.75.
LOW_EXPONENTS = (0.25, 0.5, 1.0)
HIGH_EXPONENTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)

IntArray = NDArray[np.int_]

_LOW = np.array(LOW_EXPONENTS)
_HIGH = np.array(HIGH_EXPONENTS)
EXPONENTS = np.array([(p, q) for p in LOW_EXPONENTS for q in HIGH_EXPONENTS])
_CELLS = 120
_TAIL = 1e-5
_MAX_PASSES = 10
# A cell with more of the mass than this is split.
_FULL_CELL = 0.03
_FINEST = 1e-7


def basin(u: FloatArray, p: FloatArray | float, q: FloatArray | float) -> FloatArray:
    """Return the unit basin: value 0, slope 0 and second derivative 1 at ``u = 0``; arguments broadcast.

    Examples
    --------
    >>> float(basin(np.array(0.0), 0.5, 1.0))
    0.0
    >>> round(float(basin(np.array(0.1), 1e-6, 1e-6)), 6)  # the parabola u^2 / 2
    0.005
    """
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    value: FloatArray = (_term(-u, p) + _term(u, q)) / (p + q)
    return value


def basin_terms(x: FloatArray, vertices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the terms in p and in q of basins at `vertices`, shapes (g, exponents p, k) and (g, exponents q, k)."""
    offset = x[None, None, :] - vertices[:, None, None]
    return _term(-offset, _LOW[None, :, None]), _term(offset, _HIGH[None, :, None])


def _term(u: FloatArray, exponent: FloatArray) -> FloatArray:
    # exp(200) is far outside any LR range (e^200 = 1e87) and keeps squares finite.
    term: FloatArray = np.expm1(np.clip(exponent * u, -50.0, 200.0)) / exponent
    return term


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Whitened:
    """The losses with covariance made the identity and block levels projected out."""

    x: FloatArray
    """log LR of each run, shape (n,)."""
    target: FloatArray
    """Whitened losses, shape (n - blocks,)."""
    operator: FloatArray
    """Maps a function of the runs to the whitened space, shape (n - blocks, n)."""
    distinct: FloatArray
    """Distinct log LRs, shape (k,)."""
    distinct_operator: FloatArray
    """Maps a function of the distinct LRs to the whitened space, shape (n - blocks, k)."""
    leveller: FloatArray
    """Maps losses minus the basin to block levels by generalised least squares, shape (blocks, n)."""
    level_covariance: FloatArray
    """Covariance of the block levels in units of the noise variance, shape (blocks, blocks)."""
    log_scale: float
    """Log of the factor between the density of the whitened losses and that of the losses, levels integrated out."""
    blur: float
    """Standard deviation of the vertex, in ln(LR), that this covariance leaves to the shape of the model."""


def whiten(x: FloatArray, loss: FloatArray, blocks: FloatArray, covariance: FloatArray, blur: float = 0.0) -> Whitened:
    """Prepare a regression with covariance (relative, n by n) and one free level for each column of `blocks`."""
    factor = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(factor)
    columns = inverse @ blocks
    basis, _ = np.linalg.qr(columns, mode="complete")
    operator = basis[:, blocks.shape[1] :].T @ inverse
    distinct, place = np.unique(x, return_inverse=True)
    level_covariance: FloatArray = np.asarray(np.linalg.inv(columns.T @ columns), dtype=np.float64)
    return Whitened(
        x=x,
        target=operator @ loss,
        operator=operator,
        distinct=distinct,
        distinct_operator=operator @ np.eye(distinct.size)[place],
        leveller=level_covariance @ columns.T @ inverse,
        level_covariance=level_covariance,
        log_scale=float(-np.sum(np.log(np.diag(factor))) + 0.5 * np.linalg.slogdet(level_covariance)[1]),
        blur=blur,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BasinPosterior:
    """Posterior over (x0, p, q) on a grid, and the linear unknowns given each grid point.

    Notes
    -----
    The noise variance has the prior 1 / variance, the curvature D > 0 the prior D, and x0 and the exponents are uniform
    over their ranges. The prior D is the Jacobian of uniform priors on the two linear coefficients of a parabola,
    (b, c) = (-2 c x0, c): with it the interval of a parabola's vertex is close to Fieller's, and simulated coverage is
    nominal; a prior flat in D gave intervals 1.5 to 2 times wider for five LRs at one seed.
    """

    edges: FloatArray
    """Edges of the cells of x0, shape (g + 1,)."""
    vertices: FloatArray
    """Centres of the cells, shape (g,)."""
    exponents: FloatArray
    """The pairs (p, q), once for each covariance, shape (columns, 2)."""
    model: IntArray
    """Index of the covariance of each column, shape (columns,)."""
    blur: FloatArray
    """Standard deviation of the vertex that the shape of the model leaves open, shape (columns,)."""
    mass: FloatArray
    """Posterior mass, shape (g, columns), sums to 1."""
    curvature: FloatArray
    """Least-squares curvature, shape (g, columns)."""
    curvature_se: FloatArray
    """Its standard error, shape (g, columns)."""
    variance: FloatArray
    """Noise variance, shape (g, columns)."""
    df: float
    """Degrees of freedom of the variance at a grid point."""

    @property
    def vertex_mass(self) -> FloatArray:
        """Posterior mass of x0, shape (g,)."""
        total: FloatArray = self.mass.sum(axis=1)
        return total

    def vertex_quantile(self, probability: FloatArray | float, *, blurred: bool = False) -> FloatArray:
        """Return quantiles of x0; blurred, each covariance's share is convolved with a normal density of its `blur`."""
        if not blurred:
            edges = self.edges
            cumulative = np.concatenate([[0.0], np.cumsum(self.vertex_mass)])
        else:
            widths = np.unique(self.blur)
            reach = 5 * float(widths[-1])
            edges = np.union1d(self.edges, np.linspace(self.vertices[0] - reach, self.vertices[-1] + reach, 121))
            cumulative = np.zeros(edges.size)
            for width in widths:
                mass = self.mass[:, self.blur == width].sum(axis=1)
                cumulative += ndtr((edges[:, None] - self.vertices[None, :]) / max(width, _FINEST)) @ mass
        return np.asarray(np.interp(probability, cumulative / cumulative[-1], edges), dtype=np.float64)

    def plug_in(self, vertex: float) -> tuple[int, int]:
        """Return the grid indices of the most probable exponents at the grid point nearest to `vertex`."""
        row = int(np.argmin(np.abs(self.vertices - vertex)))
        return row, int(np.argmax(self.mass[row]))


def posterior(
    models: Sequence[Whitened], lower: float, upper: float, *, noise_variance: float = 0.0, noise_df: float = 0.0
) -> BasinPosterior:
    """Evaluate the posterior of the basin for x0 in [lower, upper], mixed over covariances of equal prior weight.

    The grid is refined until no cell holds more than 3 % of the mass, so that exact data give an exact vertex. An
    outside estimate of the noise enters as a scaled inverse chi-squared prior of `noise_df` degrees.
    """
    edges = np.linspace(lower, upper, _CELLS + 1)
    reduced = [_reduce(data) for data in models]
    for _ in range(_MAX_PASSES):
        result = _on_grid(models, reduced, edges, noise_variance, noise_df)
        mass = result.vertex_mass
        if mass.max() < _FULL_CELL or np.diff(edges)[np.argmax(mass)] < _FINEST:
            break
        # Half of the next grid has cells of equal mass, the other half covers everything that has any.
        first, last = result.vertex_quantile(np.array([_TAIL, 1 - _TAIL]))
        equal = result.vertex_quantile(np.linspace(0, 1, _CELLS // 2 + 1)[1:-1])
        edges = np.unique(np.concatenate([np.linspace(float(first), float(last), _CELLS // 2 + 2), equal]))
        edges = edges[np.concatenate([[True], np.diff(edges) > 1e-13 * max(abs(lower), abs(upper), 1.0)])]
    return result


def _reduce(data: Whitened) -> tuple[FloatArray, FloatArray, float]:
    """Return operator, target and residual sum of squares in the space that the distinct LRs span.

    What replicates differ among themselves is orthogonal to every basin, and is summed once.
    """
    rows, columns = data.distinct_operator.shape
    total = float(data.target @ data.target)
    if rows <= columns:
        return data.distinct_operator, data.target, 0.0
    basis, operator = np.linalg.qr(data.distinct_operator)
    target = basis.T @ data.target
    return operator, target, max(total - float(target @ target), 0.0)


def _on_grid(
    models: Sequence[Whitened],
    reduced: Sequence[tuple[FloatArray, FloatArray, float]],
    edges: FloatArray,
    noise_variance: float,
    noise_df: float,
) -> BasinPosterior:
    vertices = (edges[1:] + edges[:-1]) / 2
    # The basin is a sum of a term in p and a term in q, and takes one value for each distinct LR: each term is whitened
    # once for all pairs and all replicates.
    low_term, high_term = basin_terms(models[0].distinct, vertices)
    df = models[0].target.size - 1 + noise_df
    parts = []
    for data, (operator, target, apart) in zip(models, reduced, strict=True):
        low, high = low_term @ operator.T, high_term @ operator.T
        columns = low[:, :, None, :] + high[:, None, :, :]
        columns = columns.reshape(vertices.size, len(EXPONENTS), -1) / EXPONENTS.sum(axis=1)[None, :, None]
        power = np.einsum("gmn,gmn->gm", columns, columns)
        curvature = (columns @ target) / power
        total = float(data.target @ data.target)
        # Rounding leaves a residual of about 1e-15 of the losses; the floor keeps logarithms finite on exact data.
        residual = np.maximum(apart + float(target @ target) - curvature**2 * power, 1e-24 * total + 1e-300)
        variance = (residual + noise_df * noise_variance) / df
        se = np.sqrt(variance / power)
        t = curvature / se
        # Integral over D > 0 of D times a density of scale se around the estimate, by the normal partial expectation.
        positive = np.maximum(t, 0.0) * stdtr(df, t) + np.exp(-0.5 * np.minimum(t * t, 1400.0)) / np.sqrt(2 * np.pi)
        log_mass = -0.5 * df * np.log(variance) - np.log(power) + np.log(positive * np.sqrt(variance) + 1e-300)
        parts.append((log_mass + data.log_scale, curvature, se, variance))
    log_mass, curvature, se, variance = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    mass = np.exp(log_mass - log_mass.max()) * np.diff(edges)[:, None]
    return BasinPosterior(
        edges=edges,
        vertices=vertices,
        exponents=np.tile(EXPONENTS, (len(models), 1)),
        model=np.repeat(np.arange(len(models)), len(EXPONENTS)),
        blur=np.repeat([data.blur for data in models], len(EXPONENTS)),
        mass=mass / mass.sum(),
        curvature=curvature,
        curvature_se=se,
        variance=variance,
        df=float(df),
    )
