"""Draws of the parameters of a loss law: losses are drawn again about the fit, and the law is fitted to each draw."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri, stdtrit

from lrscale.laws.base import FloatArray
from lrscale.laws.leverage import robust_sd, tangent
from lrscale.laws.resample import cluster_weights
from lrscale.laws.separable import AbstractSeparableLaw, Inputs
from lrscale.laws.varpro import Residual, Solution, resolve

_EDGE = 1e-9


def spread(clusters: int, n_parameters: int, confidence: float) -> float:
    """Return by how much a bootstrap over few clusters must be widened.

    Residuals are smaller than the noise by (m - k) / m in variance, for m clusters and k parameters, and Student's t
    stands in for the normal distribution (Hesterberg 2015). Both corrections go into the weights, so that draws stay on
    the curved ridges along which the parameters of a scaling law trade off.
    """
    df = clusters - n_parameters
    tail = (1 + confidence) / 2
    return math.sqrt(clusters / df) * float(stdtrit(df, tail) / ndtri(tail))


def draw(
    law: AbstractSeparableLaw,
    x: Inputs,
    loss: FloatArray,
    clusters: Sequence[Hashable],
    found: Solution,
    *,
    residual: Residual,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return draws of the parameters, shape (resamples, n_parameters).

    Clusters whose points lie at one place (a cell and its seeds) are taken to differ from the law by noise of one size.
    Each draw adds such noise to the fitted losses, divided by sqrt(chi^2 / df), and fits the law by least squares: for
    a law linear in its parameters the quantiles of the draws are Student's t intervals, and for a curved one they
    follow the ridges along which its parameters trade off. A bootstrap by weights cannot do this with few clusters: to
    be as wide as three degrees of freedom ask for, it must put nearly all weight on two or three cells, through which
    the law passes wherever they lie.

    Points of a cluster at several places (a run with its curve) have noise that the place changes. Their clusters are
    drawn by weights instead.
    """
    label = {own: i for i, own in enumerate(dict.fromkeys(clusters))}
    cluster = np.array([label[own] for own in clusters])
    if not _at_one_place(x, cluster):
        wider = spread(len(label), law.n_parameters, confidence)
        weights = cluster_weights(clusters, resamples, rng, spread=wider)
        return resolve(law, x, loss, found.params, weight=weights, residual=residual, delta=found.delta)
    df = len(label) - law.n_parameters
    log = residual == "log"
    sd = _noise(_pseudo_residuals(law, x, found, log=log), cluster, df)
    # A fit follows noise only along the tangent of the law: a few directions, which can be filled evenly.
    basis = tangent(law, x, found.params, weight=np.ones(loss.size), log=log)
    shared = (np.eye(len(label))[cluster] * sd).T @ basis
    upper: FloatArray = np.linalg.qr(shared)[1]
    noise = _student(upper.T, df, resamples, rng) @ basis.T
    fitted = law.evaluate(found.params[None], x)
    drawn = fitted * np.exp(noise) if log else fitted + noise
    return resolve(law, x, drawn, found.params, weight=np.ones(noise.shape), residual=residual)


def _at_one_place(x: Inputs, cluster: NDArray[np.intp]) -> bool:
    first = np.unique(cluster, return_index=True)[1][cluster]
    return all(bool(np.all(own == own[first])) for own in x.values())


def _student(root: FloatArray, df: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return rows of a multivariate t distribution, shape (resamples, k), for a root (k, k) of its scale matrix.

    With a fixed seed the same draws serve every study, and an interval that they make too short is too short in all of
    them. Between seeds the coverage of 1,000 random draws has a standard deviation of 0.7 %, that of Sobol points moved
    by one random shift (Cranley and Patterson 1976, SIAM Journal on Numerical Analysis 13) one of 0.45 %.
    """
    k = len(root)
    # Loaded where it is used: its import would take as long as planning does.
    from scipy.stats import qmc

    points = qmc.Sobol(k + 1, scramble=False).random_base2(max(resamples - 1, 1).bit_length())[:resamples]
    points = np.clip((points + rng.random(k + 1)) % 1, _EDGE, 1 - _EDGE)
    chi_square = 2 * gammaincinv(df / 2, points[:, k])
    rows: FloatArray = ndtri(points[:, :k]) @ root.T * np.sqrt(df / chi_square)[:, None]
    return rows


def _pseudo_residuals(law: AbstractSeparableLaw, x: Inputs, found: Solution, *, log: bool) -> FloatArray:
    """Return residuals whose variance, spent on a least-squares fit, makes it as imprecise as the robust one.

    An estimate by Huber's loss has the covariance of least squares with the noise ``psi(r) / mean psi'(r)``, times a
    correction for few points (Huber 1973, Annals of Statistics 1, equation 6.5).
    """
    r, delta = found.residuals, found.delta
    if np.isinf(delta):
        return r
    # Too few residuals are below a threshold much smaller than the noise to count them: their density, taken as even
    # below the median size of normal noise, gives the share.
    typical = ndtri(0.75) * robust_sd(law, x, found.params, r, np.ones(r.size), log=log)
    counted = float(np.mean(np.abs(r) <= max(delta, typical)))
    inside = counted if typical <= delta else counted * delta / typical
    few = 1 + law.n_parameters / r.size * (1 - counted) / counted
    pseudo: FloatArray = few / inside * np.clip(r, -delta, delta)
    return pseudo


def _noise(residuals: FloatArray, cluster: NDArray[np.intp], df: int) -> FloatArray:
    """Return the standard deviation of each cluster's mean residual, shape (clusters,).

    The noise of a run and the departure of its cell from the law add (analysis of variance, unequal counts: Searle,
    Casella and McCulloch 1992). Without replicates the two are one.
    """
    count = np.bincount(cluster).astype(np.float64)
    means = np.bincount(cluster, weights=residuals) / count
    n, m = residuals.size, count.size
    between = float(count @ means**2) / df
    within = float(np.sum((residuals - means[cluster]) ** 2)) / (n - m) if n > m else 0.0
    typical = (n - float(count @ count) / n) / (m - 1)
    shared = max((between - within) / typical, 0.0)
    sd: FloatArray = np.sqrt(shared + (between - typical * shared) / count)
    return sd
