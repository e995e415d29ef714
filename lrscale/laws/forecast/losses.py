"""The loss at a target, from the fitted lowest losses of the cells."""

from __future__ import annotations

import itertools
import math

import numpy as np

from lrscale.laws.base import FloatArray
from lrscale.laws.forecast.answer import Span
from lrscale.laws.forecast.cells import CellTable
from lrscale.laws.forecast.families import Place
from lrscale.laws.non_negative import non_negative
from lrscale.laws.scale import fit_loss_scaling

_RESAMPLES = 300
# Exponents of the loss that were published, from Kaplan et al. 2020 (arXiv:2001.08361, tokens and params near 0.08) to
# the steepest of small models: evenly in the logarithm.
_EXPONENTS = np.exp(np.linspace(math.log(0.05), math.log(0.6), 10))
_DRAWS = 300


def loss_at(
    table: CellTable, levels: FloatArray, place: Place, *, noise: float, confidence: float, random_seed: int
) -> tuple[Span | None, str]:
    """Return the loss at a place, and which law it is of, or why there is none.

    Parameters
    ----------
    table : CellTable
        The cells.
    levels : array of shape (cells,)
        Fitted lowest loss of each.
    place : Place
        The target.
    noise : float
        Standard deviation of a run.
    confidence : float
        Of the interval.
    random_seed : int
        Of the draws.

    Notes
    -----
    `fit_loss_scaling` where the cells are enough for its intervals; with fewer, the same form with exponents between
    0.05 and 0.6, weighed by how well they describe the cells.
    """
    if not (levels > 0).all():
        return None, "The losses are not all positive, and the law of the loss is a sum of positive terms."
    unseen = place.unseen(table)
    if unseen:
        return None, f"Every cell has the same {unseen[0]}, and the target another."
    fit = fit_loss_scaling(
        [cell.params for cell in table.cells],
        [cell.horizon for cell in table.cells],
        levels,
        confidence=confidence,
        resamples=_RESAMPLES,
        random_seed=random_seed,
        holdout=False,
    )
    if fit.law == "chinchilla" and fit.estimates and fit.draws:
        value, lo, hi = (float(one[0]) for one in fit.predict({"params": [place.params], "tokens": [place.horizon]}))
        if all(math.isfinite(one) for one in (value, lo, hi)):
            return Span(value=value, lo=lo, hi=hi), f"{fit.formula}, through the lowest losses of {levels.size} cells."
    return _bounded_exponents(table, levels, place.offsets(table), noise, confidence, random_seed)


def _bounded_exponents(
    table: CellTable, levels: FloatArray, at: tuple[float, float], noise: float, confidence: float, random_seed: int
) -> tuple[Span | None, str]:
    terms: list[tuple[str, FloatArray, float]] = []
    if table.several_sizes:
        terms.append(("A / params^alpha", table.size, at[0]))
    if table.several_lengths:
        terms.append(("B / horizon^beta", table.length, at[1]))
    if levels.size < len(terms) + 2:
        return None, f"{levels.size} cells are too few for a law of the loss; {len(terms) + 2} are needed."
    shapes = np.array(list(itertools.product(_EXPONENTS, repeat=len(terms))))
    columns = [np.exp(-np.outer(shapes[:, i], own)) for i, (_, own, _) in enumerate(terms)]
    design = np.stack([np.ones((len(shapes), levels.size)), *columns], axis=2)
    squares = np.sum((_fitted(design, np.tile(levels, (len(shapes), 1)), design) - levels) ** 2, axis=1)
    spare = levels.size - design.shape[2]
    variance = max(noise**2, float(squares.min()) / spare)
    weight = np.exp(-(squares - squares.min()) / (2 * variance))
    rng = np.random.default_rng(random_seed)
    chosen = rng.choice(len(shapes), size=_DRAWS, p=weight / weight.sum())
    drawn = levels + math.sqrt(variance) * rng.standard_normal((_DRAWS, levels.size))
    far = np.column_stack([np.ones(len(shapes)), *[np.exp(-shapes[:, i] * to) for i, (_, _, to) in enumerate(terms)]])
    losses = _fitted(design[chosen], drawn, far[chosen][:, None])[:, 0]
    tail = 50 * (1 - confidence)
    lo, middle, hi = (float(end) for end in np.percentile(losses, [tail, 50, 100 - tail]))
    names = " + ".join(name for name, _, _ in terms)
    return (
        Span(value=middle, lo=lo, hi=hi),
        f"loss = E + {names} with exponents between 0.05 and 0.6, through the lowest losses of {levels.size} cells.",
    )


def _fitted(design: FloatArray, losses: FloatArray, at: FloatArray) -> FloatArray:
    """Return what non-negative sums of the columns that fit the losses say at other rows, shape (m, rows)."""
    amplitudes = non_negative(design, losses, np.ones_like(losses))
    return np.asarray((at @ amplitudes[..., None])[..., 0])
