"""What to train next, and what to name: the best LR and batch size from the fewest runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.study.planner.acquisition import expected_gain, gain_beside, wide_gain
from lrscale.study.planner.hypothesis import NARROW, WIDE, IntArray, Residual
from lrscale.study.planner.noise import UnderNoise
from lrscale.study.planner.one_thread import one_thread
from lrscale.study.planner.outlook import Outlook
from lrscale.study.planner.posterior import Candidates, Posterior
from lrscale.study.planner.prior import BasinBank, Belief
from lrscale.study.planner.space import BoolArray, FloatArray, HasPoints, Space

MEMBERS = 3000
"""Basins of the prior: as many as keep a run of 120 settings at some 20 ms."""
STARTS = ((0.35, 0.35), (0.65, 0.65), (0.9, 0.5), (0.5, 0.1), (0.1, 0.5))
"""First settings, as shares of the box in ln LR and ln batch. Two runs must be there before anything is learned; the
others are for runs side by side, and lie where an optimum at an edge is seen."""
UNTOLD = 5
"""Runs from which noise cannot be told: the best measured setting is named. From more, what was measured and what is
expected count as far as noise may not and may matter: where it does, the best measured one is the luckiest run."""
SPENT = 0.02
"""Expected improvement in z below which the basins have nothing left to try, and a wider doubt takes over: 2 % of the
difference of losses that counts."""
HOPELESS = 1e-3
"""Expected improvement in z under that doubt below which another setting is not worth a run."""
LEADING = 3
"""Settings among which further seeds are spent."""
DIVERGED = 3.0
"""Excess of a diverged run against the worst that ended. How bad it is tells nothing, so any factor above 1 will do."""
BELIEVED_APART = 1.0
"""Distance of the second start from the first, in ln, where a belief gives the first: nearer ones say less."""
DRAWS = 400
"""Surfaces behind an interval: its ends are each the tenth from outside."""
TAIL = 0.025
"""Share of the draws beyond either end of a 95 % interval."""


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
    """Expected loss above that of the best setting of the space by the likeliest basins, in units of the loss."""
    sigma: float
    """Standard deviation of a run at equal setting, as far as the runs tell."""
    smoothed: bool
    """Whether noise is more likely to matter than not, so that the loss expected of the trained settings counts more
    than the measured one."""


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
        self._sds: list[float] = []
        self._closed: set[int] = set()
        self._open: list[int] = []
        self._candidates: Candidates | None = None
        self._posterior: Posterior | None = None
        """Of the runs that were told, by the likeliest basins."""
        self._noise: UnderNoise | None = None
        """Of the same runs; None where noise cannot be told from them, or was not asked for."""

    @property
    def told(self) -> int:
        """Runs that have been told."""
        return len(self._rows)

    @one_thread()
    def ask(self) -> tuple[float, float]:
        """Return (LR, batch size) of the next run; asked again before it is told, of another one beside it."""
        row = self._next()
        self._open.append(row)
        return float(self.space.points[row, 0]), float(self.space.points[row, 1])

    def tell(self, lr: float, batch_size: float, loss: float | None, *, sd: float = 0.0, again: bool = True) -> None:
        """Take the loss of a run; of None, NaN or infinity it diverged.

        The setting need not be one that was asked for: the nearest of the space is taken.

        Parameters
        ----------
        lr, batch_size : float
        loss : float or None
            At the horizon, or what is estimated of it.
        sd : float, optional
            Standard deviation of an estimate, where the run did not come to its horizon. Such a run informs what is
            expected, and is never named. Infinity: nothing is known of its loss. Default 0: a measured loss.
        again : bool, optional
            Whether the setting of an estimate may be asked for again. Default True.

        Raises
        ------
        LrscaleError
            For an LR or a batch size that is not positive, or a standard deviation that is negative or NaN.
        """
        if not sd >= 0:
            raise LrscaleError(f"a loss has the standard deviation {sd}", hint="use a number from 0")
        row = self.space.nearest(lr, batch_size)
        if self._open:
            self._open.remove(row if row in self._open else self._open[0])
        self._rows.append(row)
        self._losses.append(math.nan if loss is None or not math.isfinite(loss) else float(loss))
        self._sds.append(float(sd))
        if not again:
            self._closed.add(row)
        self._posterior = self._candidates = self._noise = None

    @one_thread()
    def recommend(self) -> tuple[float, float]:
        """Return (LR, batch size) to name now; before the first run that ended, the lowest LR of the space."""
        row = self._named()
        return float(self.space.points[row, 0]), float(self.space.points[row, 1])

    @one_thread()
    def outlook(self) -> Outlook | None:
        """Return what is expected of every setting, or None before two runs have ended with different losses.

        Examples
        --------
        >>> planner = Planner(Space.lattice((1e-3, 4e-3), [16, 64]))
        >>> planner.outlook() is None
        True
        >>> for lr, loss in ((1e-3, 2.0), (4e-3, 3.0)):
        ...     planner.tell(lr, 16, loss)
        >>> outlook = planner.outlook()
        >>> outlook.mean.shape, outlook.draws.shape, bool(outlook.mean[0] < outlook.mean[4])
        ((10,), (400, 10), True)
        """
        candidates = self._fitted(WIDE)
        if candidates is None:
            return None
        posterior = candidates.whole()
        lowest, unit = float(np.nanmin(self._measured())), self._unit()
        draws = posterior.draw(DRAWS, self._drawing())
        return Outlook(mean=lowest + unit * posterior.mean, sd=unit * posterior.sd, draws=lowest + unit * draws)

    @one_thread()
    def choice(self) -> Choice | None:
        """Return the setting to name with its intervals, or None before two runs have ended with different losses."""
        posterior, outlook = self._known(), self.outlook()
        if posterior is None or outlook is None:
            return None
        row = self._named()
        here, half = outlook.draws[:, row], self._half_step()
        # What another run may gain is judged as it is chosen: by the likeliest basins.
        likely = posterior.draw(DRAWS, self._drawing())
        lr_lo, lr_hi = np.quantile(self._logs[outlook.draws.argmin(axis=1), 0], [TAIL, 1 - TAIL])
        lo, hi = np.quantile(here, [TAIL, 1 - TAIL])
        return Choice(
            lr=float(self.space.points[row, 0]),
            batch_size=float(self.space.points[row, 1]),
            loss=float(outlook.mean[row]),
            loss_lo=float(lo),
            loss_hi=float(hi),
            lr_lo=math.exp(lr_lo - half),
            lr_hi=math.exp(lr_hi + half),
            regret=self._unit() * float(np.mean(likely[:, row] - likely.min(axis=1))),
            sigma=self._unit() * posterior.sigma,
            smoothed=self._under_noise() is not None,
        )

    def _drawing(self) -> np.random.Generator:
        return np.random.default_rng([self._rng_seed, self.told])

    def _half_step(self) -> float:
        # No optimum is known better than the LRs that may be tried.
        apart = np.diff(np.unique(self._logs[:, 0]))
        return float(np.median(apart)) / 2 if apart.size else 0.0

    def _measured(self) -> FloatArray:
        """Return the losses, NaN where a run diverged or did not come to its horizon."""
        return np.where(np.array(self._sds) > 0, np.nan, np.array(self._losses))

    def _unit(self) -> float:
        """Return the median of the measured losses above their lowest: fits are in units of it, whatever the loss's."""
        measured = self._measured()
        above = measured[np.isfinite(measured)] - np.nanmin(measured)
        return float(np.median(above[above > 0]))

    def _trained(self) -> list[int]:
        """Return the settings of the runs that came to their horizon or diverged."""
        return [row for row, sd in zip(self._rows, self._sds, strict=True) if sd == 0]

    def _named(self) -> int:
        losses = self._measured()
        if not np.isfinite(losses).any():
            return int(np.argmin(self._logs[:, 0]))
        # Only what was trained is named: beyond it a wall may stand that no run has met.
        tried = sorted(set(self._trained()))
        # A setting with replicates counts with their mean: the luckiest of them is no measurement of it.
        own = [losses[(np.array(self._rows) == row) & (np.array(self._sds) == 0)] for row in tried]
        mean = np.array([float(np.nanmean(some)) if np.isfinite(some).any() else math.inf for some in own])
        diverged = [int(np.isnan(some).sum()) for some in own]
        noise = self._told_noise()
        if noise is not None:
            # Without noise what was measured is the loss; with it, what is expected there is.
            above = (mean - np.nanmin(losses)) / self._unit()
            mean = (1 - noise.share) * above + noise.share * noise.smoothed[tried]
        return min(zip(diverged, mean, tried, strict=True))[-1]

    def _known(self) -> Posterior | None:
        if self._posterior is None:
            self._candidates = self._fitted(NARROW)
            self._posterior = self._candidates.leading() if self._candidates is not None else None
        return self._posterior

    def _told_noise(self) -> UnderNoise | None:
        """Return what the runs say if their noise may matter, or None where that cannot be told."""
        known = self._informing()
        if self._noise is None and known is not None and len(self._trained()) > UNTOLD:
            self._noise = UnderNoise(self._surfaces, self._logs, *known)
        return self._noise

    def _under_noise(self) -> UnderNoise | None:
        """Return the same where noise is more likely to matter than not, or None."""
        noise = self._told_noise()
        return noise if noise is not None and noise.matters else None

    def _informing(self) -> tuple[IntArray, FloatArray, FloatArray] | None:
        """Return setting, loss above the lowest measured one, and standard deviation of the runs that say something.

        Both in units of `_unit`. None before two runs have ended with different losses.
        """
        rows, losses, sds = np.array(self._rows), np.array(self._losses), np.array(self._sds)
        measured = self._measured()
        if np.isfinite(measured).sum() < 2 or np.nanmax(measured) <= np.nanmin(measured):
            return None
        unit, lowest = self._unit(), np.nanmin(measured)
        excess = (losses - lowest) / unit
        worst = (np.nanmax(measured) - lowest) / unit
        excess = np.where(np.isnan(excess), DIVERGED * worst, excess)
        says = np.isfinite(sds)
        return rows[says], excess[says], sds[says] / unit

    def _fitted(self, residuals: Sequence[Residual]) -> Candidates | None:
        known = self._informing()
        if known is None:
            return None
        return Candidates(self._surfaces, self._logs, *known, residuals)

    def _next(self) -> int:
        noise, trained, every = self._under_noise(), self._trained(), np.arange(len(self._logs))
        usable = ~np.isin(every, list(self._closed))
        beside = usable & ~np.isin(every, self._open)
        free = beside & ~np.isin(every, trained)
        if not free.any() or (self._replicates and noise is not None):
            free = beside if beside.any() else usable
        if noise is not None and not self._open:
            return _lowest(-noise.gain(np.array(trained)), free)
        posterior = self._known()
        if posterior is None:
            return self._start(free)
        seen = float(posterior.mean[trained].min())
        best = min(seen, 0.0) if noise is None else seen
        gain = expected_gain(posterior, best)
        if self._open and self._candidates is not None:
            further = gain_beside(self._candidates.whole(), best, self._open)
            gain = further if further[free].max() >= SPENT else gain
        if gain[free].max() < SPENT and noise is None:
            done = self._logs[[*self._rows, *self._open]]
            gain = wide_gain(posterior, best, self._logs, done, self.space.log_box)
            if self._replicates and gain[free].max() < HOPELESS:
                return self._again(posterior)
        return _lowest(-gain, free)

    def _again(self, posterior: Posterior) -> int:
        # Nothing else is worth a run: another seed of a leading setting shows the noise, which single runs hide.
        runs = Counter([*self._rows, *self._open])
        leading = sorted(set(self._trained()), key=lambda row: float(posterior.mean[row]))[:LEADING]
        return min(leading, key=lambda row: runs[row])

    def _start(self, free: BoolArray) -> int:
        """Return a first setting: inside the box, where the belief points, and below what diverged."""
        lo, hi = self.space.log_box
        share = np.array(STARTS[min(len(self._rows) + len(self._open), len(STARTS) - 1)])
        wanted = lo + share * (hi - lo)
        diverged = [row for row, loss in zip(self._rows, self._losses, strict=True) if math.isnan(loss)]
        if diverged:
            lowest = self._logs[diverged, 0].min()
            wanted[0] = min(wanted[0], (lowest + self._logs[:, 0].min()) / 2)
        elif self._belief.is_held:
            expected = np.log1p(self._surfaces).mean(axis=0)
            taken = self._logs[[*self._rows, *self._open]]
            near = (np.abs(self._logs[:, None] - taken[None]).max(axis=2) < BELIEVED_APART).any(axis=1)
            return _lowest(expected, free & ~near if (free & ~near).any() else free)
        return _lowest(((self._logs - wanted) ** 2).sum(axis=1), free)


def _lowest(values: FloatArray, among: BoolArray) -> int:
    """Return the row of the lowest value among some, or among all where there are none."""
    return int(np.argmin(np.where(among, values, np.inf) if among.any() else values))


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
    return Planner(Space(space.points), seed=seed)
