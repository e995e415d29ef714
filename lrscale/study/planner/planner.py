"""What to train next, and what to name: the best LR and batch size from the fewest runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.special import ndtr

from lrscale.study.planner.hypothesis import kernel
from lrscale.study.planner.posterior import Posterior
from lrscale.study.planner.prior import BasinBank, Belief
from lrscale.study.planner.space import FloatArray, HasPoints, Space

MEMBERS = 3000
STARTS = ((0.35, 0.35), (0.65, 0.65), (0.9, 0.5), (0.5, 0.1), (0.1, 0.5))
"""First settings, as shares of the box in ln LR and ln batch. Two runs must be there before anything is learned; the
others are for runs side by side."""
NOISY = 1.5
"""Noise of a run, in units of the scale of the losses, from which on a smoothed choice is named. Below it the best
measured setting is better than the best expected one; above it that is the luckiest run."""
CAUTION = 0.2
"""Standard deviations of the expected loss that a smoothed choice adds to it."""
SPENT = 0.02
"""Expected improvement in z below which the basins have nothing left to try, and a wider doubt takes over."""
WIDE_SD, WIDE_SHARE = 0.8, 0.45
"""Standard deviation in z and length scales, as shares of the box, of that doubt."""
HOPELESS = 1e-3
"""Expected improvement in z under that doubt below which another setting is not worth a run."""
LEADING = 3
"""Settings among which further seeds are spent."""
DIVERGED = 3.0
"""Excess of a diverged run against the worst that ended."""
BELIEVED_APART = 1.0
"""Distance of the second start from the first, in ln, where a belief gives the first."""
LEAST = 0.05
"""Lowest ratio of losses whose logarithm is taken."""
DRAWS = 400


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The setting to name now, and how sure it is."""

    lr: float
    batch_size: float
    loss: float
    """Expected loss there, with the interval of its mean over seeds."""
    loss_lo: float
    loss_hi: float
    lr_lo: float
    """Interval of the LR of the best setting of the space."""
    lr_hi: float
    regret: float
    """Expected loss above that of the best setting of the space, in units of the loss."""
    sigma: float
    """Standard deviation of a run at equal setting, as far as the runs tell."""
    smoothed: bool
    """Whether the noise decided for the best expected setting in place of the best measured one."""


@final
class Planner:
    """Asks for runs one by one, or several at once, and names a setting at any time.

    Parameters
    ----------
    space : Space
        The settings that may be trained.
    seed : int, optional
        Makes every answer repeatable. Default 0.
    belief : Belief, optional
        What is expected from elsewhere. Default: nothing.
    replicates : bool, optional
        Whether a setting may be asked for again, with another seed. Default False. It is, where noise decides.

    Examples
    --------
    >>> planner = Planner(Space.lattice((1e-4, 1e-1), [16, 64, 256]))
    >>> def train(lr, batch_size):
    ...     return 2 + 0.1 * math.log(lr / 3e-3) ** 2 + 0.02 * math.log(batch_size / 64) ** 2
    >>> for _ in range(8):
    ...     lr, batch_size = planner.ask()
    ...     planner.tell(lr, batch_size, train(lr, batch_size))
    >>> lr, batch_size = planner.recommend()
    >>> 2e-3 < lr < 5e-3, batch_size
    (True, 64.0)
    """

    def __init__(self, space: Space, *, seed: int = 0, belief: Belief | None = None, replicates: bool = False) -> None:
        self.space = space
        self._logs = space.logs
        self._rng_seed = seed
        self._replicates = replicates
        self._belief = belief or Belief()
        bank = BasinBank(space, np.random.default_rng(seed), MEMBERS, self._belief)
        self._surfaces = bank.surfaces(self._logs)
        self._rows: list[int] = []
        self._losses: list[float] = []
        self._open: list[int] = []

    @property
    def told(self) -> int:
        """Runs that have been told."""
        return len(self._rows)

    def ask(self) -> tuple[float, float]:
        """Return (LR, batch size) of the next run; asked again before it is told, of another one beside it."""
        row = self._next()
        self._open.append(row)
        return float(self.space.points[row, 0]), float(self.space.points[row, 1])

    def tell(self, lr: float, batch_size: float, loss: float | None) -> None:
        """Take the loss of a run; of None, NaN or infinity it diverged.

        The setting need not be one that was asked for: the nearest of the space is taken.
        """
        row = self.space.nearest(lr, batch_size)
        if self._open:
            self._open.remove(row if row in self._open else self._open[0])
        self._rows.append(row)
        self._losses.append(math.nan if loss is None or not math.isfinite(loss) else float(loss))

    def recommend(self) -> tuple[float, float]:
        """Return (LR, batch size) to name now; before the first run that ended, the lowest LR of the space."""
        row = self._named(self._posterior())
        return float(self.space.points[row, 0]), float(self.space.points[row, 1])

    def choice(self) -> Choice | None:
        """Return the setting to name with its intervals, or None before two runs have ended with different losses."""
        posterior = self._posterior()
        if posterior is None:
            return None
        row = self._named(posterior)
        drawn = posterior.draw(DRAWS, np.random.default_rng([self._rng_seed, self.told]))
        best = drawn.argmin(axis=1)
        lowest = float(np.nanmin(self._losses))
        ends = np.quantile(self._logs[best, 0], [0.025, 0.975])
        half = self._half_step()
        lo, hi = np.quantile(drawn[:, row], [0.025, 0.975])
        return Choice(
            lr=float(self.space.points[row, 0]),
            batch_size=float(self.space.points[row, 1]),
            loss=lowest + float(posterior.mean[row]),
            loss_lo=lowest + float(lo),
            loss_hi=lowest + float(hi),
            lr_lo=math.exp(ends[0] - half),
            lr_hi=math.exp(ends[1] + half),
            regret=float(np.mean(drawn[:, row] - drawn.min(axis=1))),
            sigma=posterior.sigma,
            smoothed=self._noisy(posterior),
        )

    def _half_step(self) -> float:
        # No optimum is known better than the LRs that may be tried.
        apart = np.diff(np.unique(self._logs[:, 0]))
        return float(np.median(apart)) / 2 if apart.size else 0.0

    @staticmethod
    def _noisy(posterior: Posterior) -> bool:
        return posterior.sigma > NOISY * posterior.scale

    def _named(self, posterior: Posterior | None) -> int:
        losses = np.array(self._losses)
        if not np.isfinite(losses).any():
            return int(np.argmin(self._logs[:, 0]))
        if posterior is not None and self._noisy(posterior):
            # Only what was trained is named: beyond it a wall may stand that no run has met.
            tried = sorted(set(self._rows))
            return tried[int(np.argmin((posterior.mean + CAUTION * posterior.sd)[tried]))]
        # A setting with replicates counts with their mean: the luckiest of them is no measurement of it.
        rows = sorted(set(self._rows))
        means = [np.mean(losses[[place for place, row in enumerate(self._rows) if row == one]]) for one in rows]
        return rows[int(np.nanargmin(means))]

    def _posterior(self, beside: Sequence[int] = (), expected: FloatArray | None = None) -> Posterior | None:
        losses = np.array(self._losses)
        if np.isfinite(losses).sum() < 2 or np.nanmax(losses) <= np.nanmin(losses):
            return None
        excess = losses - np.nanmin(losses)
        excess = np.where(np.isnan(excess), DIVERGED * np.nanmax(excess), excess)
        rows = np.array([*self._rows, *beside])
        if expected is not None:
            # A lower expectation than any run would move the zero of the others.
            excess = np.concatenate([excess, np.maximum(expected, 0)])
        return Posterior(self._surfaces, self._logs, rows, excess)

    def _next(self) -> int:
        posterior = self._posterior()
        free = np.ones(len(self._logs), dtype=bool)
        free[[*self._rows, *self._open]] = False
        if posterior is None:
            return self._start(free)
        if self._open:
            # Runs that are on their way count as ended where they are expected to end.
            believed = self._posterior(self._open, posterior.mean[self._open])
            posterior = believed if believed is not None else posterior
        noisy = self._noisy(posterior)
        if not free.any() or (self._replicates and noisy):
            free[:] = True
        seen = posterior.mean[self._rows].min()
        best = seen if noisy else min(seen, 0.0)
        gain = posterior.weights @ _improvement(
            _z(best, posterior.scale),
            _z(posterior.means, posterior.scale),
            posterior.sds / np.maximum(posterior.scale + posterior.means, LEAST * posterior.scale),
        )
        if gain[free].max() < SPENT and not noisy:
            gain = self._wide(_z(posterior.mean, posterior.scale) - _z(best, posterior.scale))
            if self._replicates and gain[free].max() < HOPELESS:
                return self._again(posterior)
        return int(np.argmax(np.where(free, gain, -np.inf)))

    def _wide(self, expected: FloatArray) -> FloatArray:
        # The same surface under a process that knows no basins: what they rule out may still be there.
        lo, hi = self.space.log_box
        lengths = WIDE_SHARE * np.maximum(hi - lo, 1e-9)
        done = self._logs[[*self._rows, *self._open]]
        covariance = kernel(done, done, lengths) + 1e-4 * np.eye(len(done))
        known = np.linalg.solve(np.linalg.cholesky(covariance), kernel(done, self._logs, lengths))
        sd = WIDE_SD * np.sqrt(np.maximum(1 - (known**2).sum(axis=0), 1e-12))
        return _improvement(0.0, expected, sd)

    def _again(self, posterior: Posterior) -> int:
        # Nothing else is worth a run: another seed of a leading setting shows the noise, which single runs hide.
        runs = Counter([*self._rows, *self._open])
        leading = sorted(set(self._rows), key=lambda row: float(posterior.mean[row]))[:LEADING]
        return min(leading, key=lambda row: runs[row])

    def _start(self, free: FloatArray) -> int:
        """Return a first setting: inside the box, where the belief points, and below what diverged."""
        lo, hi = self.space.log_box
        share = np.array(STARTS[min(len(self._rows) + len(self._open), len(STARTS) - 1)])
        wanted = lo + share * (hi - lo)
        diverged = [row for row, loss in zip(self._rows, self._losses, strict=True) if math.isnan(loss)]
        if diverged:
            lowest = self._logs[diverged, 0].min()
            wanted[0] = min(wanted[0], (lowest + self._logs[:, 0].min()) / 2)
        elif self._belief.lr is not None or self._belief.best_batch_factor is not None:
            expected = np.log1p(self._surfaces).mean(axis=0)
            for row in [*self._rows, *self._open]:
                expected = expected + 1e3 * (np.abs(self._logs - self._logs[row]).max(axis=1) < BELIEVED_APART)
            return int(np.argmin(np.where(free, expected, np.inf))) if free.any() else int(np.argmin(expected))
        away = ((self._logs - wanted) ** 2).sum(axis=1)
        return int(np.argmin(np.where(free, away, np.inf) if free.any() else away))


def _z(excess: FloatArray | float, scale: float) -> FloatArray:
    z: FloatArray = np.log(np.maximum(1 + np.asarray(excess) / scale, LEAST))
    return z


def _improvement(best: FloatArray | float, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return the expected improvement on `best` of a normal variable (Jones et al. 1998)."""
    ahead = best - mean
    score = ahead / np.maximum(sd, 1e-12)
    density = np.exp(-(score**2) / 2) / math.sqrt(2 * math.pi)
    gain: FloatArray = ahead * ndtr(score) + sd * density
    return gain


def make(space: HasPoints, budget: int, seed: int) -> Planner:
    """Return a planner for a table of settings.

    Parameters
    ----------
    space : object with `points`
        Array of shape (n, 2): LR and batch size of each setting.
    budget : int
        Runs that may be asked for. The planner is the same for any: it names its best at any time.
    seed : int
        Makes it repeatable.
    """
    del budget
    points: Any = space.points
    return Planner(Space(np.asarray(points, dtype=np.float64)), seed=seed)
