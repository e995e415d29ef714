"""What the runs so far say of the loss at every setting: an average of fitted basins by their evidence."""

from __future__ import annotations

from typing import final

import numpy as np

from lrscale.study.planner.hypothesis import OFFSET, Fitted, Hypothesis, IntArray, Runs, hypotheses, kernel, likeliest
from lrscale.study.planner.space import FloatArray

AVERAGED = 300
"""Members that are averaged, the likeliest over all hypotheses."""


@final
class Posterior:
    """Weighted members, with their mean and spread at every setting of a space.

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
        Its loss above the lowest.
    """

    def __init__(self, surfaces: FloatArray, logs: FloatArray, rows: IntArray, excess: FloatArray) -> None:
        runs = Runs(logs=logs[rows], excess=excess)
        self._logs = logs
        self.scale = runs.scale
        """Difference of losses that counts."""
        fits = [(one, one.fit(surfaces[:, rows])) for one in hypotheses(runs)]
        evidence = np.concatenate([fit.log_evidence for _, fit in fits])
        owner = np.repeat(np.arange(len(fits)), [fit.log_evidence.size for _, fit in fits])
        place = np.concatenate([np.arange(fit.log_evidence.size) for _, fit in fits])
        best = likeliest(evidence, AVERAGED)
        weights = np.exp(evidence[best] - evidence[best[0]])
        self.weights: FloatArray = weights / weights.sum()
        """Shape (members,)."""
        self.means = np.empty((best.size, len(logs)))
        """Loss that each member expects, shape (members, settings)."""
        self.sds = np.empty_like(self.means)
        """Its standard deviation."""
        self._hypothesis: list[Hypothesis] = [one for one, _ in fits]
        self._owner = owner[best]
        sigmas = np.array([one.sigma for one in self._hypothesis])
        for number in np.unique(self._owner):
            own = self._owner == number
            one, fit = fits[number]
            self.means[own], self.sds[own] = _expected(one, fit, place[best][own], surfaces, logs)
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
        prior = kernel(self._logs, self._logs)
        for number in np.unique(self._owner[chosen]):
            one, own = self._hypothesis[number], self._owner[chosen] == number
            gain = one.gain(self._logs)
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
