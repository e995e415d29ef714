"""What a trial that did not come to its horizon tells of the loss that it would have had there.

Trials of one search have the same schedule over the same examples, so that at the same share of their horizons the same
share of the decay is over. By how much the loss of a completed trial fell from there on is its *rest*. That of the
unfinished trial is predicted from theirs, which is the same as by paired differences: where the rests of two trials are
equal, their losses differ at the end by what they differ there.

Rests are unequal where curves cross: before the LR has decayed, a high one has more of its loss still to lose. So they
are a Gaussian process over ln LR, ln batch and the loss there, in which trials near the unfinished one count most, with
a flat mean and independent parts. Its scale is integrated out, and the size of the independent parts is averaged over,
which is Student's t: few trials say little. How much all rests are bounds how much they may differ; late in the decay
it is little. Last, the answer is widened as far as leaving out each completed trial in turn shows it to be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

FloatArray = NDArray[np.float64]

FEWEST = 3
"""Completed trials below which nothing is estimated: the rests of two have one difference, which has no spread."""
MOST = 16
"""Completed trials that are compared with, those nearest in LR and batch size: farther ones add little but time."""
LENGTHS = np.array([3.0, 5.0, 1.5])
"""Length scales in ln LR, in ln batch, and in the loss there against its spread. Long ones: a nearly linear course."""
SIZE = 1.5
"""Standard deviation of the process against the scale of the rests."""
INDEPENDENT = (0.03, 0.1, 0.3, 1.0)
"""Standard deviations of the independent parts that are averaged over, in the same unit."""
GUESS = 0.5
"""The scale against the root mean square of the rests, before they say how much they differ. It counts as one rest."""
OUTSIDE = 0.2
"""Standard deviation of what a loss outside of the completed trials' adds, as a share of its distance from them:
near divergence a curve need not go on as others do. On the curves of two full grids (digits and byte-gpt, 118 and 64
trials) 1.96 standard deviations then hold 88 to 99 % of the losses at the horizon, from 20, 50 and 80 % of it."""
LEVEL = 0.975
T_WIDER = (1.0, *(float(stdtrit(degrees, LEVEL) / ndtri(LEVEL)) for degrees in range(1, MOST + 1)))
"""By degrees of freedom, the factor by which Student's t is wider than a normal variable at `LEVEL`: there the standard
deviation that is returned agrees with it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The losses of a trial at the shares of its horizon."""

    lr: float
    batch_size: int
    losses: Mapping[int, float]
    """By the number of the share, as far as it came."""
    final: float | None = None
    """At the horizon; None of an unfinished trial."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The loss at the horizon that an unfinished trial is expected to have had."""

    loss: float
    sd: float
    """Standard deviation, above 0."""
    share: int
    """Number of the share of the horizon at which it was compared."""
    among: int
    """Completed trials that it was compared with."""


def estimate(unfinished: Curve, completed: Sequence[Curve]) -> Estimate | None:
    """Return what an unfinished trial's loss at the horizon would have been.

    Parameters
    ----------
    unfinished : Curve
        Compared at the last share that it reached.
    completed : sequence of Curve
        Trials of the same schedule and horizon.

    Returns
    -------
    Estimate or None
        None where fewer than `FEWEST` completed trials have a loss at that share.

    Examples
    --------
    Every trial falls by 0.5 from half of the horizon on, and those of higher LRs by a little more:

    >>> def curve(lr, half, final=None):
    ...     return Curve(lr=lr, batch_size=64, losses={5: half}, final=final)
    >>> whole = [curve(1e-3, 2.0, 1.5), curve(2e-3, 1.9, 1.39), curve(4e-3, 2.0, 1.48), curve(8e-3, 2.2, 1.67)]
    >>> told = estimate(curve(16e-3, 2.6), whole)
    >>> round(told.loss, 2), round(told.sd, 1), told.among
    (2.08, 0.3, 4)
    >>> estimate(curve(16e-3, 2.6), whole[:2]) is None
    True
    """
    if not unfinished.losses:
        return None
    share = max(unfinished.losses)
    there = nearest(unfinished, [one for one in completed if one.final is not None and share in one.losses])
    if len(there) < FEWEST:
        return None
    at = np.array([one.losses[share] for one in (*there, unfinished)])
    rest = at[:-1] - np.array([one.final for one in there], dtype=np.float64)
    unit = float(np.sqrt(np.mean(rest**2)))
    mean, sd = (0.0, 0.0) if unit == 0 else _predicted(_covariance([*there, unfinished], at), rest / unit)
    outside = max(at[-1] - at[:-1].max(), at[:-1].min() - at[-1], 0.0)
    # Where no loss has moved at all, what is left is the rounding of a loss.
    least = float(np.spacing(np.abs(at).max()))
    return Estimate(
        loss=float(at[-1] - unit * mean),
        sd=max(math.hypot(unit * sd, OUTSIDE * outside), least),
        share=share,
        among=len(there),
    )


def nearest(to: Curve, completed: Sequence[Curve], most: int = MOST) -> list[Curve]:
    """Return the trials that one is compared with: at most so many, the nearest in ln LR and ln batch first."""
    if not completed:
        return []
    places = np.log([(one.lr, one.batch_size) for one in completed]) - np.log([to.lr, to.batch_size])
    away = np.hypot(*(places / LENGTHS[:2]).T)
    # Of equally near ones, which are taken does not follow from their order.
    order = sorted(
        range(len(completed)),
        key=lambda row: (away[row], completed[row].lr, completed[row].batch_size, *completed[row].losses.values()),
    )
    return [completed[row] for row in order[:most]]


def _covariance(curves: Sequence[Curve], at: FloatArray) -> FloatArray:
    """Return the Matern-3/2 covariance of the rests of some trials, without their independent parts."""
    spread = float(np.std(at)) or 1.0
    places = np.stack([np.log([one.lr for one in curves]), np.log([one.batch_size for one in curves]), at / spread], 1)
    away = np.sqrt(3 * (((places[:, None] - places[None]) / LENGTHS) ** 2).sum(axis=2))
    covariance: FloatArray = SIZE**2 * (1 + away) * np.exp(-away)
    return covariance


def _predicted(covariance: FloatArray, rest: FloatArray) -> tuple[float, float]:
    """Return mean and standard deviation of the rest of the last trial, given those of the others."""
    count = rest.size
    sizes = np.array(INDEPENDENT)
    inverse = np.linalg.inv(covariance[:-1, :-1] + sizes[:, None, None] ** 2 * np.eye(count))
    each = inverse.sum(axis=1)
    ones = each.sum(axis=1)
    # With the flat mean integrated out.
    free = inverse - each[:, :, None] * each[:, None] / ones[:, None, None]
    level = each @ rest / ones
    gain = inverse @ covariance[:-1, -1]
    left = free @ rest
    scale = (GUESS**2 + left @ rest) / count
    known = covariance[-1, -1] - gain @ covariance[:-1, -1] + (1 - gain.sum(axis=1)) ** 2 / ones
    means = level + gain @ rest - gain.sum(axis=1) * level
    variances = scale * (np.maximum(known, 0.0) + sizes**2)
    evidence = np.linalg.slogdet(inverse)[1] / 2 - np.log(ones) / 2 - count / 2 * np.log(scale)
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    mean = float(weights @ means)
    # The squared errors of each rest predicted from the others, in units of their variances.
    wider = (left**2 / np.diagonal(free, axis1=1, axis2=2)).mean(axis=1) / scale
    variance = float(weights @ (variances + (means - mean) ** 2)) * max(1.0, float(weights @ wider))
    return mean, math.sqrt(variance) * T_WIDER[count]
