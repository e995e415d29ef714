"""Differences of losses, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from scipy.special import stdtr, stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import Interval, check_confidence, finite_or_none

Verdict = Literal["lower", "higher", "equivalent", "cannot tell"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference of mean losses, a minus b, with its interval and a verdict about a."""

    value: float | None
    """Mean of a minus mean of b; None without data on both sides."""
    interval: Interval | None
    """Interval of the difference (Student's t); None with fewer than two pairs."""
    sd: float | None
    """Standard deviation of the paired differences, or the pooled one when unpaired."""
    df: float
    """Degrees of freedom of the interval; 0 without one."""
    p_value: float | None
    """Two-sided p-value of no difference."""
    n_pairs: int
    """Seeds on which both finished; 0 when the comparison is unpaired."""
    paired: bool
    """Whether common seeds were used."""
    margin: float
    """Differences within +-margin count as equivalent."""
    verdict: Verdict
    """`equivalent`: the interval lies within the margin; `lower`, `higher`: it excludes zero; else `cannot tell`."""
    diverged: tuple[int, int]
    """Runs of a and of b that diverged and were left out."""

    @property
    def standard_error(self) -> float | None:
        """Standard error of the difference; None without an interval."""
        ends = self.interval
        if self.value is None or ends is None or ends.hi is None or self.df <= 0:
            return None
        return (ends.hi - self.value) / float(stdtrit(self.df, (1 + ends.confidence) / 2))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["interval"] = None if self.interval is None else self.interval.to_dict()
        plain["diverged"] = list(self.diverged)
        for name in ("value", "sd", "p_value"):
            plain[name] = finite_or_none(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Difference:
        """Rebuild the difference that `to_dict` wrote."""
        values = dict(data)
        values["interval"] = None if data["interval"] is None else Interval.from_dict(data["interval"])
        values["diverged"] = tuple(data["diverged"])
        return cls(**values)


def paired_difference(
    a: Mapping[Hashable, float | None],
    b: Mapping[Hashable, float | None],
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
) -> Difference:
    """Compare two settings whose runs share seeds.

    Runs with the same seed share initialisation and example order, so the variance of their difference is a fraction of
    that of either (common random numbers). With fewer than two common seeds the two means are compared unpaired
    (Welch).

    Parameters
    ----------
    a, b : mapping of seed to loss
        None or a non-finite loss means diverged; such runs are counted and left out, never averaged.
    margin : float, optional
        Differences up to this size do not matter. Defaults to 0: nothing is ever equivalent.
    confidence : float, optional
        Of the interval. Defaults to 0.95.

    Returns
    -------
    Difference

    Examples
    --------
    >>> result = paired_difference({0: 2.00, 1: 2.30, 2: 1.90}, {0: 2.11, 1: 2.40, 2: 1.99})
    >>> result.verdict, round(result.value, 3), result.df
    ('lower', -0.1, 2.0)
    """
    check_confidence(confidence)
    if margin < 0 or not math.isfinite(margin):
        raise LrscaleError(
            f"margin {margin} is not a non-negative number", hint="use the loss that does not matter to you"
        )
    left, right = _finished(a), _finished(b)
    diverged = (len(a) - len(left), len(b) - len(right))
    common = [seed for seed in left if seed in right]
    paired = len(common) >= 2
    if paired:
        gaps = np.array([left[seed] - right[seed] for seed in common])
        value, sd, df = float(gaps.mean()), float(gaps.std(ddof=1)), float(gaps.size - 1)
        se = sd / math.sqrt(gaps.size)
    elif len(left) >= 2 and len(right) >= 2:
        one, two = np.array(list(left.values())), np.array(list(right.values()))
        parts = (float(one.var(ddof=1)) / one.size, float(two.var(ddof=1)) / two.size)
        value, se = float(one.mean() - two.mean()), math.sqrt(sum(parts))
        df = satterthwaite(parts, (one.size - 1, two.size - 1))
        sd = math.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 2)
    else:
        known = bool(left) and bool(right)
        gap = float(np.mean(list(left.values())) - np.mean(list(right.values()))) if known else None
        return Difference(
            value=gap,
            interval=None,
            sd=None,
            df=0.0,
            p_value=None,
            n_pairs=len(common),
            paired=False,
            margin=margin,
            verdict="cannot tell",
            diverged=diverged,
        )
    half = float(stdtrit(df, (1 + confidence) / 2)) * se
    interval = Interval(value - half, value + half, confidence)
    return Difference(
        value=value,
        interval=interval,
        sd=sd,
        df=df,
        p_value=two_sided(value, se, df),
        n_pairs=len(common) if paired else 0,
        paired=paired,
        margin=margin,
        verdict=verdict_of(interval, margin),
        diverged=diverged,
    )


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of independent variance estimates (Satterthwaite 1946)."""
    total = sum(variances)
    if total <= 0:
        return float(min(dfs))
    return float(1 / sum((part / total) ** 2 / df for part, df in zip(variances, dfs, strict=True)))


def two_sided(value: float, se: float, df: float) -> float:
    """Return the two-sided p-value of a t statistic."""
    if se <= 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stdtr(df, -abs(value) / se))


def _finished(losses: Mapping[Hashable, float | None]) -> dict[Hashable, float]:
    return {seed: float(loss) for seed, loss in losses.items() if loss is not None and math.isfinite(loss)}


def verdict_of(interval: Interval, margin: float) -> Verdict:
    """Return what an interval of a difference says against a margin of equivalence."""
    lo, hi = interval.lo, interval.hi
    if lo is None or hi is None:
        return "cannot tell"
    if margin > 0 and -margin <= lo and hi <= margin:
        return "equivalent"
    if hi < 0:
        return "lower"
    return "higher" if lo > 0 else "cannot tell"
