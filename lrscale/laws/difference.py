"""Differences of losses: paired by seed, and between the minima of several fitted slices."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from scipy.special import stdtr, stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, Interval, check_confidence, finite_or_none
from lrscale.laws.claim import holm
from lrscale.laws.lr_slice.slice_fit import LRSliceFit

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
        verdict=_verdict(interval, margin),
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


def _verdict(interval: Interval, margin: float) -> Verdict:
    lo, hi = interval.lo, interval.hi
    if lo is None or hi is None:
        return "cannot tell"
    if margin > 0 and -margin <= lo and hi <= margin:
        return "equivalent"
    if hi < 0:
        return "lower"
    return "higher" if lo > 0 else "cannot tell"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MinimaRow:
    """One setting at its own best LR."""

    name: str
    min_loss: float | None
    interval: Interval | None
    best_lr: float | None
    gap: Difference | None
    """Minimum of this setting minus that of the lowest, interval simultaneous over all pairs; None for the lowest."""
    standing: Literal["best", "tied", "equivalent", "worse", "not comparable"]
    """`best`: lower than every other; `tied`: not told apart from the lowest; `equivalent`: within the margin of it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MinimaComparison:
    """Settings ranked by their loss at their own best LR; ties are an answer."""

    rows: tuple[MinimaRow, ...]
    """Lowest first; settings without a located minimum last."""
    winner: str | None
    """The setting that is lower than each of the others, or None."""
    tied: tuple[str, ...]
    """Settings not told apart from the lowest, itself included; empty when nothing is comparable."""
    p_values: tuple[tuple[str, str, float], ...]
    """(a, b, Holm-adjusted p-value) for each pair."""
    reason: str
    """One sentence."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        rows = []
        for row in self.rows:
            plain = {name: getattr(row, name) for name in MinimaRow.__slots__}
            plain["interval"] = None if row.interval is None else row.interval.to_dict()
            plain["gap"] = None if row.gap is None else row.gap.to_dict()
            rows.append(plain)
        return {
            "rows": rows,
            "winner": self.winner,
            "tied": list(self.tied),
            "p_values": [list(row) for row in self.p_values],
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MinimaComparison:
        """Rebuild the comparison that `to_dict` wrote."""
        rows = []
        for row in data["rows"]:
            values = dict(row)
            values["interval"] = None if row["interval"] is None else Interval.from_dict(row["interval"])
            values["gap"] = None if row["gap"] is None else Difference.from_dict(row["gap"])
            rows.append(MinimaRow(**values))
        return cls(
            rows=tuple(rows),
            winner=data["winner"],
            tied=tuple(data["tied"]),
            p_values=tuple((a, b, p) for a, b, p in data["p_values"]),
            reason=data["reason"],
        )


def compare_minima(
    fits: Mapping[str, LRSliceFit], margin: float = 0.0, *, confidence: float = 0.95
) -> MinimaComparison:
    """Rank settings by the fitted loss at their own best LR.

    Comparing settings at one common LR compares how well that LR suits each. Here each setting has its own sweep, and
    the smoothed minima are compared, not the lowest runs (the lowest of ten noisy runs lies 1.5 sd below its mean).
    Settings swept with common seeds are compared seed by seed.

    Parameters
    ----------
    fits : mapping of name to LRSliceFit
        One fitted slice for each setting, for example one for each schedule.
    margin : float, optional
        Differences up to this size do not matter. Defaults to 0.
    confidence : float, optional
        1 minus the chance of naming any false difference among all pairs (Holm 1979). Defaults to 0.95.

    Returns
    -------
    MinimaComparison
        A winner only when it is lower than every other setting and no setting is left whose minimum was not located.

    References
    ----------
    .. [1] Holm. "A Simple Sequentially Rejective Multiple Test Procedure." Scand. J. Stat. 6 (1979).
    """
    check_confidence(confidence)
    if margin < 0 or not math.isfinite(margin):
        raise LrscaleError(
            f"margin {margin} is not a non-negative number", hint="use the loss that does not matter to you"
        )
    ranked = sorted(
        (name for name, fit in fits.items() if fit.status is FitStatus.OK), key=lambda name: _level(fits[name])
    )
    others = [name for name in fits if name not in ranked]
    pairs = [(a, b) for i, a in enumerate(ranked) for b in ranked[i + 1 :]]
    simultaneous = 1 - (1 - confidence) / max(len(pairs), 1)
    gaps = {(a, b): minima_difference(fits[b], fits[a], margin, confidence=simultaneous) for a, b in pairs}
    adjusted = holm({pair: gap.p_value if gap.p_value is not None else 1.0 for pair, gap in gaps.items()})
    rows = []
    for name in ranked:
        gap = gaps.get((ranked[0], name))
        worse = gap is not None and adjusted[(ranked[0], name)] < 1 - confidence
        standing: Literal["tied", "equivalent", "worse"] = "worse" if worse else "tied"
        if gap is not None and gap.verdict == "equivalent":
            standing = "equivalent"
        fit = fits[name]
        rows.append(
            MinimaRow(
                name=name,
                min_loss=fit.min_loss,
                interval=fit.min_loss_interval,
                best_lr=fit.best_lr,
                gap=gap,
                standing=standing,
            )
        )
    wins = len(rows) > 1 and not others and all(row.standing == "worse" for row in rows[1:])
    if wins:
        rows[0] = _replace_standing(rows[0], "best")
    tied = tuple(row.name for row in rows if row.standing != "worse")
    rows += [
        MinimaRow(name=name, min_loss=None, interval=None, best_lr=None, gap=None, standing="not comparable")
        for name in others
    ]
    return MinimaComparison(
        rows=tuple(rows),
        winner=ranked[0] if wins else None,
        tied=tied,
        p_values=tuple((a, b, adjusted[(a, b)]) for a, b in pairs),
        reason=_reason(ranked, tied, others, wins, fits),
    )


def _level(fit: LRSliceFit) -> float:
    return math.inf if fit.min_loss is None else fit.min_loss


def minima_difference(a: LRSliceFit, b: LRSliceFit, margin: float = 0.0, *, confidence: float = 0.95) -> Difference:
    """Return the fitted minimum of a minus that of b, each at its own best LR.

    With two or more common seeds: the mean of the seeds' differences, whose spread counts noise and the interaction of
    seed and setting, plus the error of both curves' shapes, which all seeds of a slice share.

    Parameters
    ----------
    a, b : LRSliceFit
        Slices whose minima were located.
    margin : float, optional
        Differences up to this size do not matter. Defaults to 0.
    confidence : float, optional
        Of the interval. Defaults to 0.95.
    """
    left = {seed: level for seed, level in a.seed_levels if seed is not None}
    right = {seed: level for seed, level in b.seed_levels if seed is not None}
    common = [seed for seed in left if seed in right]
    shapes = [((a.shape_se or 0.0) ** 2, _spare(a)), ((b.shape_se or 0.0) ** 2, _spare(b))]
    if len(common) >= 2:
        gaps = np.array([left[seed] - right[seed] for seed in common])
        value, sd = float(gaps.mean()), float(gaps.std(ddof=1))
        parts = [(sd**2 / gaps.size, float(gaps.size - 1)), *shapes]
    else:
        value, sd = _level(a) - _level(b), None
        parts = [(_level_variance(fit), _spare(fit)) for fit in (a, b)]
    se = math.sqrt(sum(part for part, _ in parts))
    df = satterthwaite([part for part, _ in parts], [df for _, df in parts])
    half = float(stdtrit(df, (1 + confidence) / 2)) * se
    interval = Interval(value - half, value + half, confidence)
    return Difference(
        value=value,
        interval=interval,
        sd=sd,
        df=df,
        p_value=two_sided(value, se, df),
        n_pairs=len(common) if len(common) >= 2 else 0,
        paired=len(common) >= 2,
        margin=margin,
        verdict=_verdict(interval, margin),
        diverged=(sum(loss is None for loss in a.loss), sum(loss is None for loss in b.loss)),
    )


def _spare(fit: LRSliceFit) -> float:
    finished = sum(loss is not None for loss in fit.loss)
    return float(max(finished - max(len(fit.seed_levels), 1) - 2, 1))


def _level_variance(fit: LRSliceFit) -> float:
    """Return the variance of the minimum over seeds as the draws have it, from their central 68 %."""
    low, high = np.percentile([row[4] for row in fit.curve_draws], [15.87, 84.13])
    # The draws are t-distributed already; dividing by the t quantile avoids counting the few degrees of freedom twice.
    df = max(len(fit.seed_levels) - 1, 1) if len(fit.seed_levels) > 1 else _spare(fit)
    return float(((high - low) / 2 / float(stdtrit(df, 0.8413))) ** 2)


def _replace_standing(row: MinimaRow, standing: Literal["best"]) -> MinimaRow:
    return MinimaRow(
        name=row.name,
        min_loss=row.min_loss,
        interval=row.interval,
        best_lr=row.best_lr,
        gap=row.gap,
        standing=standing,
    )


def _reason(
    ranked: Sequence[str], tied: Sequence[str], others: Sequence[str], wins: bool, fits: Mapping[str, LRSliceFit]
) -> str:
    if not ranked:
        return "No setting has a located minimum."
    left = "".join(f" {name} is not comparable: {fits[name].status.value}." for name in others)
    if wins:
        return f"{ranked[0]} is lower than every other setting, each at its own best LR."
    if len(ranked) == 1:
        return f"Only {ranked[0]} has a located minimum.{left}"
    if len(tied) > 1:
        return f"{', '.join(tied)} are not told apart.{left}"
    return f"{ranked[0]} is lower than the settings it can be compared with.{left}"
