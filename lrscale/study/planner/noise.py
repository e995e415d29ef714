"""The basins of the prior fitted to runs whose noise may be as large as what they differ by.

A member f of the bank predicts ``floor + amplitude f``. What is left is a Gaussian process and an independent part,
both in proportion to ``NEAR + f``: a basin fits well near its minimum and badly far up. So what runs near the minimum
differ by is the noise of a run, which is the same everywhere, and is not taken for misfit. All three are in units of
the amplitude, so that for a given member, misfit and noise the likelihood is a closed form of the amplitude, which is
integrated out about its maximum (Laplace); so is the floor, exactly. Both have flat priors, that of the amplitude in
its logarithm.

How bad a run is that lies far above the others tells nothing: behind a wall of divergence it may be any number, which
the few members would fit that happen to have such a wall. Of those runs only counts that they are far above.
"""

from __future__ import annotations

from typing import final

import numpy as np
from scipy.special import log_ndtr

from lrscale.study.planner.acquisition import improvement
from lrscale.study.planner.hypothesis import MANY, OFFSET, IntArray, kernel, likeliest
from lrscale.study.planner.space import FloatArray

NOISES = np.array([0.003, 0.01, 0.03, 0.1, 0.3, 1.0])
"""Standard deviations of a run that are averaged over, in units of the amplitude: the excess about 1.4 e-folds from the
best LR."""
MATTERS = 0.2
"""Noise from which on it matters which of the lowest runs was lucky: it moves the best LR by about a factor of 1.2."""
OF_EXCESS = 0.3
"""The same against the median excess of the runs: where most are far worse than noise explains, it decides little."""
MISFITS = np.array([0.1, 0.3, 0.6])
"""Standard deviations of the process that are averaged over."""
NUGGET = 0.1
"""Standard deviation of the independent part. Twice as much takes noise for misfit more often (docs/methods.md)."""
FAR, FAR_SD = 10.0, 0.7
"""Excess from which on a run lies far above the others, against their median (the lower one of two), and the standard
deviation in ln of where a member must have it. At 4 and at 40 names under noise are worse, at 20 as good."""
NEAR = 0.05
"""Excess, in units of the amplitude, whose misfit the minimum itself has."""
GUESSED = 0.3
"""Misfit under which members are short-listed, as if it were independent."""
SHORT_LIST, WORK = 1000, 12_000
"""Pairs of a member and a noise that are looked at in full, the likeliest by that guess; with many runs fewer, so that
pairs times runs, and past `MANY` runs times their square, and with them the time of a step, are bounded."""
AVERAGED = 300
"""Members that are averaged, the likeliest; past `MANY` runs fewer, which then tell members apart the better."""
LOWEST = 0.2
"""Share of `NEAR` below which no excess is taken, so that its logarithm is bounded."""


@final
class UnderNoise:
    """What runs say of the loss at every setting, and whether their noise matters.

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
        Standard deviation of what is estimated of it, beside its noise; 0 of a measured loss. In units of the amplitude
        it is that over the amplitude by which a pair of member and noise is short-listed.
    """

    def __init__(
        self, surfaces: FloatArray, logs: FloatArray, rows: IntArray, excess: FloatArray, sds: FloatArray
    ) -> None:
        surfaces = surfaces - surfaces.min(axis=1, keepdims=True)
        positive = np.sort(excess[excess > sds])
        typical, bound = float(np.median(positive)), FAR * float(positive[(positive.size - 1) // 2])
        far = excess > bound
        beyond = surfaces[:, rows[far]] / bound
        rows, excess, sds = rows[~far], excess[~far], sds[~far]
        here = surfaces[:, rows]
        fewer = min(1.0, MANY / len(rows))
        guess, guessed_amplitude = _guessed(here, excess, sds)
        guess = guess + _far(guessed_amplitude[:, :, None] * beyond)
        pair = likeliest(guess.ravel(), min(SHORT_LIST, int(WORK / len(rows) * fewer)))
        member = np.tile(pair % len(surfaces), len(MISFITS))
        noise = np.tile(NOISES[pair // len(surfaces)], len(MISFITS))
        misfit = np.repeat(MISFITS, len(pair))
        shape, every = here[member], np.arange(len(rows))
        spread = misfit[:, None] * (NEAR + shape)
        covariance = spread[:, :, None] * spread[:, None, :] * kernel(logs[rows], logs[rows])
        estimated = np.tile(sds / guessed_amplitude.ravel()[pair][:, None], (len(MISFITS), 1))
        covariance[:, every, every] += noise[:, None] ** 2 + (NUGGET * (NEAR + shape)) ** 2 + estimated**2
        factor: FloatArray = np.linalg.cholesky(covariance).astype(np.float64, copy=False)
        columns = np.stack([np.ones_like(shape), np.broadcast_to(excess, shape.shape), shape], axis=2)
        one, loss, white = np.moveaxis(_whitened(factor, columns), 2, 0)
        ones = (one**2).sum(axis=1)
        loss_mean, shape_mean = (one * loss).sum(axis=1) / ones, (one * white).sum(axis=1) / ones
        loss, white = loss - one * loss_mean[:, None], white - one * shape_mean[:, None]
        log_evidence, amplitude = _amplitude(loss, white)
        log_evidence -= np.log(factor[:, every, every]).sum(axis=1) + np.log(ones) / 2
        log_evidence += _far(amplitude[:, None] * beyond[member])
        weights = np.exp(log_evidence - log_evidence.max())
        matters = (noise > MATTERS) & (noise * amplitude > OF_EXCESS * typical)
        self.share = float(weights[matters].sum() / weights.sum())
        """Posterior probability that noise matters."""

        best = likeliest(log_evidence, int(AVERAGED * fewer))
        self._weights = weights[best] / weights[best].sum()
        self._amplitude = amplitude[best][:, None]
        self._floor = (loss_mean - shape_mean * amplitude)[best][:, None]
        member, factor = member[best], factor[best]
        residual = loss[best] / self._amplitude - white[best]
        cross = misfit[best][:, None, None] * spread[best][:, :, None] * kernel(logs[rows], logs)
        gain = _whitened(factor, cross)
        above = NEAR + surfaces[member]
        moved = above * (residual[:, None] @ gain)[:, 0]
        left = misfit[best][:, None] ** 2 * (1 + OFFSET) - (gain**2).sum(axis=1)
        self._means = self._floor + self._amplitude * (surfaces[member] + moved)
        self._sds = self._amplitude * above * np.sqrt(np.maximum(left, 1e-10))
        self.mean: FloatArray = self._weights @ self._means
        """Expected loss above the lowest run's, shape (settings,)."""
        under = self._weights * matters[best]
        self.smoothed: FloatArray = under @ self._means / under.sum() if under.any() else self.mean
        """The same, were it certain that noise matters."""

    @property
    def matters(self) -> bool:
        """Whether noise is more likely to matter than not."""
        return self.share > 1 / 2

    def gain(self, rows: IntArray) -> FloatArray:
        """Return the expected improvement on the best expected loss of the runs, averaged over the members.

        Each member takes it in the logarithm of the excess above its own floor, in which its misfit is about as large
        everywhere.

        Parameters
        ----------
        rows : array of int, shape (n,)
            The setting of each run.

        Returns
        -------
        array of float, shape (settings,)
        """
        near = NEAR * self._amplitude
        above = np.maximum(self._means - self._floor + near, LOWEST * near)
        best = np.maximum(self.mean[rows].min() - self._floor + near, LOWEST * near)
        gain: FloatArray = self._weights @ improvement(np.log(best), np.log(above), self._sds / above)
        return gain


def _far(excess: FloatArray) -> FloatArray:
    """Return the log probability that members have far runs far above, from their excess against `FAR`."""
    log_probability: FloatArray = log_ndtr(np.log(np.maximum(excess, 1e-9)) / FAR_SD).sum(axis=-1)
    return log_probability


def _guessed(here: FloatArray, excess: FloatArray, sds: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log evidence and amplitude of members under each noise, were the misfit independent.

    An estimate's standard deviation is put in units of the amplitude that is found without any estimate's.

    Returns
    -------
    evidence, amplitude : array of float, shape (noises, members)
    """
    misfit = (GUESSED**2 + NUGGET**2) * (NEAR + here) ** 2
    evidence, amplitude = np.empty((2, len(NOISES), len(here)))
    for number, noise in enumerate(NOISES):
        variance = noise**2 + misfit
        evidence[number], amplitude[number] = _independent(here, excess, variance)
        if sds.any():
            variance = variance + (sds / amplitude[number][:, None]) ** 2
            evidence[number], amplitude[number] = _independent(here, excess, variance)
    return evidence, amplitude


def _independent(here: FloatArray, excess: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    weigh = 1 / variance
    ones = weigh.sum(axis=1)
    loss = excess - ((weigh @ excess) / ones)[:, None]
    shape = here - ((weigh * here).sum(axis=1) / ones)[:, None]
    root = np.sqrt(weigh)
    evidence, amplitude = _amplitude(root * loss, root * shape)
    return evidence + np.log(root).sum(axis=1) - np.log(ones) / 2, amplitude


def _whitened(factor: FloatArray, columns: FloatArray) -> FloatArray:
    """Solve with many lower triangular matrices at once: shapes (m, n, n) and (m, n, k)."""
    white = np.empty_like(columns)
    for row in range(columns.shape[1]):
        known = (factor[:, row : row + 1, :row] @ white[:, :row])[:, 0]
        white[:, row] = (columns[:, row] - known) / factor[:, row, row, None]
    return white


def _amplitude(loss: FloatArray, shape: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Integrate the amplitude out and return its log evidence and its likeliest value.

    With t the inverse of the amplitude the likelihood is ``t^(n - 1) exp(-(t loss - shape)^2 / 2)``.

    Parameters
    ----------
    loss, shape : array of float, shape (m, n)
        Whitened, and free of their means.
    """
    power = loss.shape[1] - 1
    square = np.maximum((loss**2).sum(axis=1), 1e-300)
    along = (loss * shape).sum(axis=1)
    root = np.sqrt(along**2 + 4 * square * power)
    # Two forms of one solution, each free of cancellation on its side.
    inverse = np.where(along > 0, (along + root) / (2 * square), 2 * power / np.maximum(root - along, 1e-300))
    width = np.maximum(2 * inverse**2 * square - inverse * along, 1e-12)
    fit = inverse**2 * square - 2 * inverse * along + (shape**2).sum(axis=1)
    return power * np.log(inverse) - fit / 2 - np.log(width) / 2, 1 / inverse
