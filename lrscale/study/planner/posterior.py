"""What the runs so far say of the loss at every setting: an average of fitted basins by their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from lrscale.study.planner.hypothesis import (
    OFFSET,
    Fitted,
    Hypothesis,
    IntArray,
    Residual,
    Runs,
    hypotheses,
    kernel,
    likeliest,
)
from lrscale.study.planner.space import FloatArray

AVERAGED = 300
"""Members that are averaged."""


@final
class Candidates:
    """Every member fitted under every hypothesis, before some are chosen to be averaged.

    Losses are relative to the lowest run's.

    Parameters
    ----------
    surfaces : array of float, shape (members, settings)
        The members of the prior at every setting.
    logs : array of float, shape (settings, 2)
        Natural logarithms of LR and batch size.
    rows : array of int, shape (n,)
        The setting of each run.
    excess : array of float, shape (n,)
        Its loss above the lowest measured one.
    sds : array of float, shape (n,)
        Standard deviation of what is estimated of it, beside its noise; 0 of a measured loss.
    residuals : sequence of Residual
        What is left beside a basin.
    """

    def __init__(
        self,
        surfaces: FloatArray,
        logs: FloatArray,
        rows: IntArray,
        excess: FloatArray,
        sds: FloatArray,
        residuals: Sequence[Residual],
    ) -> None:
        runs = Runs.of(logs[rows], excess, sds)
        self.surfaces, self.logs = surfaces, logs
        self.scale = runs.scale
        """Difference of losses that counts."""
        self.fits = [(one, one.fit(surfaces[:, rows])) for one in hypotheses(runs, residuals)]
        self.log_evidence = np.concatenate([fit.log_evidence for _, fit in self.fits])
        """Of every candidate."""
        self.owner = np.repeat(np.arange(len(self.fits)), [fit.log_evidence.size for _, fit in self.fits])
        """Which hypothesis each is of."""
        self.place = np.concatenate([np.arange(fit.log_evidence.size) for _, fit in self.fits])
        """Its place among those of the hypothesis."""

    def leading(self) -> Posterior:
        """Average the likeliest: a guide to the next run. They agree more than the runs make sure."""
        best = likeliest(self.log_evidence, AVERAGED)
        weights = np.exp(self.log_evidence[best] - self.log_evidence[best[0]])
        return Posterior(self, best, weights / weights.sum())

    def whole(self) -> Posterior:
        """Average a sample of all, for intervals: the many that fit a little worse have their share.

        After eight runs of a published sweep the likeliest 300 have 30 to 90 % of the evidence.
        """
        return Posterior(self, *thinned(self.log_evidence, AVERAGED))


@final
class Posterior:
    """Weighted members, with their mean and spread at every setting of a space.

    Parameters
    ----------
    candidates : Candidates
        All that there are.
    chosen : array of int, shape (members,)
        Those that are averaged.
    weights : array of float, shape (members,)
        Of sum 1.
    """

    def __init__(self, candidates: Candidates, chosen: IntArray, weights: FloatArray) -> None:
        self._logs = candidates.logs
        self.scale = candidates.scale
        """Difference of losses that counts."""
        self.weights = weights
        """Shape (members,)."""
        self.means = np.empty((chosen.size, len(self._logs)))
        """Loss that each member expects, shape (members, settings)."""
        self.sds = np.empty_like(self.means)
        """Its standard deviation."""
        self._hypothesis: list[Hypothesis] = [one for one, _ in candidates.fits]
        self._owner = candidates.owner[chosen]
        sigmas = np.array([one.sigma for one in self._hypothesis])
        for number in np.unique(self._owner):
            own = self._owner == number
            one, fit = candidates.fits[number]
            place = candidates.place[chosen][own]
            self.means[own], self.sds[own] = _expected(one, fit, place, candidates.surfaces, self._logs)
        self.mean: FloatArray = self.weights @ self.means
        """Expected loss, shape (settings,)."""
        self.sd: FloatArray = np.sqrt(self.weights @ (self.sds**2 + (self.means - self.mean) ** 2))
        self.sigma = float(self.weights @ sigmas[self._owner])
        """Standard deviation of a run at equal setting."""

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Draw surfaces: members by their weight, each with a residual of its process.

        Returns
        -------
        array of float, shape (count, settings)
        """
        chosen = rng.choice(self.weights.size, size=count, p=self.weights)
        drawn = np.empty((count, len(self._logs)))
        for number in np.unique(self._owner[chosen]):
            one, own = self._hypothesis[number], self._owner[chosen] == number
            gain = one.gain(self._logs)
            prior = kernel(self._logs, self._logs, one.lengths)
            values, vectors = np.linalg.eigh(one.kappa**2 * prior - gain @ gain.T)
            root = vectors * np.sqrt(np.maximum(values, 0))
            residual = rng.standard_normal((int(own.sum()), len(self._logs))) @ root.T
            drawn[own] = one.scale * (np.exp(one.z(self.means[chosen[own]]) + residual) - 1)
        return drawn


def _expected(
    one: Hypothesis, fit: Fitted, chosen: IntArray, surfaces: FloatArray, logs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    gain = one.gain(logs)
    shape = fit.floor[chosen, None] + fit.amplitude[chosen, None] * surfaces[fit.member[chosen]]
    level = one.scale * np.exp(one.z(shape) + (gain @ (one.whiten @ fit.residual[:, chosen])).T)
    spread = np.sqrt(np.maximum(one.kappa**2 * (1 + OFFSET) - (gain**2).sum(axis=1), 1e-10))
    return level - one.scale, level * spread


def thinned(log_weights: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """Return `count` places, or all where there are fewer, and weights of sum 1 that stand for all.

    The heavy ones are kept; of the light ones a systematic sample, with equal weights. In the mean over samples each
    has its own weight, with the least variance that `count` places allow (Fearnhead and Clifford 2003).

    Examples
    --------
    >>> places, weights = thinned(np.log([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]), 3)
    >>> int(places[0]), weights.round(3).tolist()
    (0, [0.5, 0.25, 0.25])
    """
    weights = np.exp(np.round(log_weights - log_weights.max(), 6))
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    if order.size <= count:
        return order, weights[order]
    heaviest = weights[order[:count]]
    # What the others would weigh, if those before a place were kept.
    share = np.cumsum(weights[order[::-1]])[::-1][:count] / (count - np.arange(count))
    kept = int(np.argmax(heaviest <= share))
    light = np.random.default_rng(0).permutation(np.sort(order[kept:]))
    steps = np.cumsum(weights[light])
    marks = (np.arange(count - kept) + 0.5) / (count - kept) * steps[-1]
    places = np.concatenate([order[:kept], light[np.searchsorted(steps, marks)]])
    return places, np.concatenate([heaviest[:kept], np.full(count - kept, steps[-1] / (count - kept))])
