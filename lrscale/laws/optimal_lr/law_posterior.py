"""Posterior of a law of the best LR on an adaptive grid of its amplitude and its first shape parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from lrscale.laws.base import AbstractLaw, FloatArray, Interval

IntArray = NDArray[np.intp]

# Cells along the amplitude and along the shape in each pass; odd, so that the first guess is a cell's centre.
_AMPLITUDES = 21
_CELLS = 25
_PASSES = 8
_TAIL = 1e-4
# Once the marginal masses fill this many cells, a finer grid changes no interval by more than 1 %.
_FULL_CELLS = 7
# A likelihood e^3 times that of all centres shows a peak between them. Cells a third of a peak's sd wide have a centre
# within e^0.02 of its top, and cells three sd wide within e^1.2.
_MISSED = 3.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LawPosterior:
    """Draws of a law's parameters, and what the grid said about its first shape parameter."""

    params: FloatArray
    """Equally weighted draws, in random order, shape (draws, n_parameters)."""
    hidden: IntArray
    """Index of the hidden state of each draw, shape (draws,)."""
    log_evidence: float
    """Log of the likelihood averaged over the shape's range and integrated over the log amplitude."""
    support: tuple[float, float]
    """Where the density of the first shape parameter exceeds a fraction of its highest value, in the parameter."""
    low_open: bool
    """Whether that range reaches the low end of what was searched."""
    high_open: bool
    """The same at the high end."""


def law_posterior(
    law: AbstractLaw,
    batch: FloatArray,
    log_likelihood: Callable[[FloatArray], FloatArray],
    locate: Callable[[FloatArray], FloatArray],
    reach: float,
    *,
    draws: int,
    rng: np.random.Generator,
    fraction: float,
    guess: FloatArray | None = None,
) -> LawPosterior | None:
    """Evaluate the posterior of a law and draw from it; None when the likelihood is zero wherever it is looked for.

    Parameters
    ----------
    law : AbstractLaw
        The prior is flat in the log amplitude, and in the law's own coordinate of its first shape parameter over the
        range of `AbstractLaw.shape_grid`; other shape parameters are equally probable on their grid.
    batch : array of shape (n,)
        Batch sizes at which the likelihood wants the best LR.
    log_likelihood : callable
        Takes ln(best LR), shape (c, n), and returns shape (c, h): one value for each hidden state.
    locate : callable
        Takes log shapes, shape (m, n), and returns log amplitudes near which the likelihood is high, shape (m,).
    reach : float
        How far from there, in ln(LR), amplitudes are looked for.
    draws : int
    rng : numpy.random.Generator
    fraction : float
        Density relative to the highest above which a value of the first shape parameter counts as supported.
    guess : array of shape (n_parameters,), optional
        Parameters near which the likelihood may be high. Where a peak there is narrower than a cell, so that all
        centres miss it, cells are laid around it. Default None.
    """
    start = law.shape_grid(batch)
    others = start[:: law.line_length, 1:]
    lines = len(others)
    length, ends = 1, (0.0, 1.0)
    if law.line_length > 1:
        line = start[[0, law.line_length - 1], 0]
        line = np.log(line) if law.log_spaced else line
        length, ends = _CELLS, (float(line[0]), float(line[1]))
    low, high = ends
    near, far = -reach, reach
    low_open = high_open = False
    for step in range(_PASSES):
        edges, widths = np.linspace(low, high, length + 1), np.linspace(near, far, _AMPLITUDES + 1)
        centres, offsets = (edges[1:] + edges[:-1]) / 2, (widths[1:] + widths[:-1]) / 2
        shapes = _shapes(law, np.tile(centres, lines), np.repeat(others, length, axis=0))
        log_shape = law.log_shape(shapes, batch)
        x = locate(log_shape)[:, None, None] + offsets[None, :, None] + log_shape[:, None, :]
        log_mass = log_likelihood(x.reshape(-1, batch.size))
        top = float(log_mass.max())
        if guess is not None and length > 1 and step < _PASSES - 1:
            at = math.log(guess[1]) if law.log_spaced else float(guess[1])
            log_shape = law.log_shape(guess[None, 1:], batch)
            x = locate(log_shape)[:, None] + offsets[:, None] + log_shape
            if low <= at <= high and float(log_likelihood(x).max()) > top + _MISSED:
                half = (high - low) / length
                low, high, near, far = max(at - half, low), min(at + half, high), -reach, reach
                low_open, high_open = low == ends[0] == at, high == ends[1] == at
                continue
        if not math.isfinite(top):
            return None
        mass = np.exp(log_mass - top).reshape(lines, length, _AMPLITUDES, -1)
        along, across = mass.sum(axis=(0, 2, 3)), mass.sum(axis=(0, 1, 3))
        if step == 0:
            low_open, high_open = (bool(length > 1 and along[i] > fraction * along.max()) for i in (0, -1))
        if step == _PASSES - 1 or (_cells(across) >= _FULL_CELLS and (length == 1 or _cells(along) >= _FULL_CELLS)):
            break
        near, far = _narrowed(widths, across)
        if length > 1:
            low, high = _narrowed(edges, along)
            low, high = max(low, ends[0]), min(high, ends[1])
    cell = float(widths[1] - widths[0]) * (float(edges[1] - edges[0]) / (ends[1] - ends[0]) if length > 1 else 1.0)
    total = float(mass.sum())
    flat = np.cumsum(mass.ravel())
    share = (np.arange(draws) + rng.random(draws)) / draws
    chosen = np.minimum(np.searchsorted(flat, share * flat[-1]), flat.size - 1)
    which, place, offset, hidden = np.unravel_index(rng.permutation(chosen), mass.shape)
    value = centres[place]
    if length > 1:
        value = value + (edges[1] - edges[0]) * rng.uniform(-0.5, 0.5, draws)
    drawn = _shapes(law, value, _between(law, others, which, rng))
    log_amplitude = locate(law.log_shape(drawn, batch)) + offsets[offset]
    log_amplitude = log_amplitude + (widths[1] - widths[0]) * rng.uniform(-0.5, 0.5, draws)
    held = np.flatnonzero(along > fraction * along.max())
    support = (float(edges[held[0]]), float(edges[held[-1] + 1]))
    return LawPosterior(
        params=np.column_stack([np.exp(np.clip(log_amplitude, -300.0, 300.0)), drawn]),
        hidden=hidden,
        log_evidence=top + math.log(total) + math.log(cell / lines),
        support=(math.exp(support[0]), math.exp(support[1])) if law.log_spaced else support,
        low_open=low_open,
        high_open=high_open,
    )


def parameter_interval(law: AbstractLaw, own: LawPosterior, i: int, confidence: float) -> Interval:
    """Return the interval of parameter `i`, with an open end where the data leave it open."""
    tail = (1 - confidence) / 2
    lo, hi = (float(value) for value in np.quantile(own.params[:, i], [tail, 1 - tail]))
    if i == 1 and (own.low_open or own.high_open):
        # Quantiles would depend on how far the search went; the likelihood-ratio bound does not.
        lo, hi = own.support
        return Interval(None if own.low_open else lo, None if own.high_open else hi, confidence)
    # With the knee unbounded above, lr_max has no upper bound either.
    return Interval(lo, None if i == 0 and law.log_spaced and own.high_open else hi, confidence)


def _between(law: AbstractLaw, others: FloatArray, which: IntArray, rng: np.random.Generator) -> FloatArray:
    """Return the drawn values of the shape parameters after the first, spread over half a step to either side."""
    values = others[which]
    for column in range(others.shape[1]):
        steps = np.diff(np.unique(others[:, column]))
        bounds = law.parameters[2 + column]
        moved = values[:, column] + (float(steps.min()) if steps.size else 0.0) * rng.uniform(-0.5, 0.5, which.size)
        values[:, column] = np.clip(moved, bounds.lower, bounds.upper)
    return values


def _shapes(law: AbstractLaw, value: FloatArray, others: FloatArray) -> FloatArray:
    if law.n_parameters == 1:
        return np.empty((value.size, 0))
    if law.line_length == 1:
        return others
    return np.column_stack([np.exp(value) if law.log_spaced else value, others])


def _cells(mass: FloatArray) -> float:
    """Return the effective number of cells, 1 / sum of squared shares."""
    share = mass / mass.sum()
    return float(1 / np.sum(share**2))


def _narrowed(edges: FloatArray, mass: FloatArray) -> tuple[float, float]:
    cumulative = np.cumsum(mass) / mass.sum()
    first = int(np.searchsorted(cumulative, _TAIL))
    last = int(np.searchsorted(cumulative, 1 - _TAIL))
    return float(edges[max(first - 1, 0)]), float(edges[min(last + 2, edges.size - 1)])
