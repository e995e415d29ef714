"""The posteriors of the laws of a surface, and the weights of its runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import fdtri

from lrscale.laws.base import AbstractLaw, FloatArray
from lrscale.laws.lr_slice.basin import EXPONENTS, basin
from lrscale.laws.lr_slice.basin_fit import (
    MIN_OUTLIER_DF,
    MODEL_ERRORS,
    OUTLIER_ROUNDS,
    excess_covariance,
    first_covariance,
    outlier_inflation,
)
from lrscale.laws.optimal_lr.law_posterior import LawPosterior, law_posterior
from lrscale.laws.surface.surface_likelihood import Cell, SurfaceLikelihood, excess_of, likelihood_of, whitened

_FIRST_DRAWS = 100


def surface_posterior(
    law: AbstractLaw,
    cells: Sequence[Cell],
    likelihood: SurfaceLikelihood,
    draws: int,
    rng: np.random.Generator,
    confidence: float,
) -> LawPosterior | None:
    """Return the posterior of one law, or None when no best LR that it allows is near the runs."""
    middle = np.array([float(cell.x.mean()) for cell in cells])

    def locate(log_shape: FloatArray) -> FloatArray:
        offset: FloatArray = (middle - log_shape).mean(axis=1)
        return offset

    return law_posterior(
        law,
        np.array([cell.batch for cell in cells]),
        likelihood,
        locate,
        float(np.max(likelihood.upper - likelihood.lower)) / 2,
        draws=draws,
        rng=rng,
        # The likelihood-ratio bound of one parameter.
        fraction=math.exp(-0.5 * float(fdtri(1, 1e9, confidence))),
    )


def weighted(
    cells: Sequence[Cell], laws: Sequence[AbstractLaw], confidence: float, rng: np.random.Generator
) -> tuple[SurfaceLikelihood, FloatArray]:
    """Return the likelihood with weights from the excess of a first fit, and the inflation of every run's variance.

    Gross outliers lose weight as in a slice (`outlier_inflation`), over the residuals of all batch sizes together: a
    thin slice alone could not tell which of its runs is wrong.
    """
    ends = np.cumsum([cell.x.size for cell in cells])[:-1]
    inflation = np.ones(sum(cell.x.size for cell in cells))
    cleaned = [cell.loss for cell in cells]
    # The laws with as many parameters as the data carry hold the others as special or limiting cases.
    most = max(law.n_parameters for law in laws)
    spare = sum(cell.spare for cell in cells) - 1 - most
    for _ in range(OUTLIER_ROUNDS):
        parts = [excess_of(cell, loss) for cell, loss in zip(cells, cleaned, strict=True)]
        extra = [np.diag(own - 1) for own in np.split(inflation, ends)]
        plain = [first_covariance(excess, place) for excess, place in parts]
        likelihood = likelihood_of(cells, [whitened(cells, plain, extra)])
        found = [
            (law, surface_posterior(law, cells, likelihood, _FIRST_DRAWS, rng, confidence))
            for law in laws
            if law.n_parameters == most
        ]
        kept = [(own.log_evidence, law, own) for law, own in found if own is not None]
        if not kept:
            break
        _, law, own = max(kept, key=lambda one: one[0])
        vertex = middle_curve(law, own, cells, likelihood)
        curvature, column, scale = plug_in(likelihood, vertex)
        scale *= math.sqrt(likelihood.df / (likelihood.df - law.n_parameters))
        covariances = []
        for error in MODEL_ERRORS:
            covariances.append(
                [
                    excess_covariance(
                        max(curvature, 0.0) * basin(np.unique(cell.x) - at, *EXPONENTS[column % len(EXPONENTS)]),
                        excess,
                        place,
                        scale,
                        error,
                    )
                    for cell, (excess, place), at in zip(cells, parts, vertex, strict=True)
                ]
            )
        likelihood = likelihood_of(cells, [whitened(cells, own, extra) for own in covariances])
        if spare < MIN_OUTLIER_DF:
            break
        curvature, column, _ = plug_in(likelihood, vertex)
        residual = likelihood.residuals(cells, vertex, curvature, column)
        variance = np.concatenate([np.diag(own) for own in covariances[column // len(EXPONENTS)]])
        previous, inflation = inflation, outlier_inflation(residual, variance, spare)
        shift = np.split(np.where(inflation > 1, residual, 0.0), ends)
        cleaned = [cell.loss - own for cell, own in zip(cells, shift, strict=True)]
        if np.all((inflation > 1) == (previous > 1)):
            break
    return likelihood, inflation


def middle_curve(
    law: AbstractLaw, own: LawPosterior, cells: Sequence[Cell], likelihood: SurfaceLikelihood
) -> FloatArray:
    """Return the median ln(best LR) of a law at the batch sizes of the cells, within what is searched."""
    curves = np.log(law.predict(own.params, np.array([cell.batch for cell in cells])))
    vertex: FloatArray = np.clip(np.median(curves, axis=0), likelihood.lower, likelihood.upper)
    return vertex


def plug_in(likelihood: SurfaceLikelihood, vertex: FloatArray) -> tuple[float, int, float]:
    """Return curvature, index of the likeliest exponents, and noise sd at given best LRs."""
    found = likelihood.evidence(vertex[None, :])
    column = int(np.argmax(found.log_mass[0]))
    return float(found.curvature[0, column]), column, math.sqrt(float(found.variance[0, column]))
