"""Settings ranked by the loss at their own best LR: the minima of several fitted slices, ties admitted."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
from scipy.special import stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, Interval, check_confidence
from lrscale.laws.claim import holm
from lrscale.laws.difference import Difference, satterthwaite, verdict_of
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.student_sum import StudentSum


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
    places: tuple[int, int] | None = None
    """First and last place that it may have: behind all that are lower and before all that are higher, as far as the
    simultaneous intervals tell. None when its minimum was not located."""

    @property
    def leads(self) -> bool:
        """Whether its minimum is the lowest, sure or not."""
        return self.gap is None and self.standing != "not comparable"

    @property
    def verdict(self) -> Literal["best", "lowest", "tied", "worse", "cannot tell"]:
        """What a table says: within the margin of the lowest is a tie, and not told apart from it is not known.

        The lowest is the best only where it is lower than every other.
        """
        if self.leads:
            return "best" if self.standing == "best" else "lowest"
        if self.standing == "worse":
            return "worse"
        return "tied" if self.standing == "equivalent" else "cannot tell"


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
            plain["places"] = None if row.places is None else list(row.places)
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
            values["places"] = None if row.get("places") is None else tuple(row["places"])
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
    Settings swept with common seeds are compared seed by seed. How much differences vary from seed to seed is taken
    over all settings together. Of 500 comparisons of a schedule with itself on noisy quadratics (2 to 6 slots, 2 or 3
    seeds) one named a difference; where settings vary from seed to seed far more than runs do, up to 4 % did.

    Parameters
    ----------
    fits : mapping of name to LRSliceFit
        One fitted slice for each setting, for example one for each schedule.
    margin : float, optional
        Differences up to this size do not matter. Defaults to 0.
    confidence : float, optional
        1 minus the chance of naming any false difference among all pairs: intervals and standings by Bonferroni, which
        agree with each other, p-values by Holm (1979). Defaults to 0.95.

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
    shared = _Interaction.of([fits[name] for name in ranked])
    gaps = {(a, b): _difference(fits[b], fits[a], margin, simultaneous, shared) for a, b in pairs}
    adjusted = holm({pair: gap.p_value if gap.p_value is not None else 1.0 for pair, gap in gaps.items()})
    rows = []
    for name in ranked:
        gap = gaps.get((ranked[0], name))
        worse = gap is not None and gap.verdict == "higher"
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
                places=_places(name, ranked, gaps),
            )
        )
    wins = len(rows) > 1 and not others and all(row.standing == "worse" for row in rows[1:])
    if wins:
        rows[0] = replace(rows[0], standing="best")
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


def _places(name: str, ranked: Sequence[str], gaps: Mapping[tuple[str, str], Difference]) -> tuple[int, int]:
    # Each gap is that of the later one of a pair minus that of the earlier one.
    lower = sum(gap.verdict == "higher" for (_, b), gap in gaps.items() if b == name)
    lower += sum(gap.verdict == "lower" for (a, _), gap in gaps.items() if a == name)
    higher = sum(gap.verdict == "higher" for (a, _), gap in gaps.items() if a == name)
    higher += sum(gap.verdict == "lower" for (_, b), gap in gaps.items() if b == name)
    return 1 + lower, len(ranked) - higher


def _level(fit: LRSliceFit) -> float:
    return math.inf if fit.min_loss is None else fit.min_loss


def _seed_levels(fit: LRSliceFit) -> dict[Hashable, float]:
    return {seed: level for seed, level in fit.seed_levels if seed is not None}


@final
@dataclass(frozen=True, slots=True)
class _Interaction:
    """How much the difference of two settings varies from seed to seed, over all settings that share the seeds."""

    variance: float
    """Of the difference at one seed."""
    df: float

    @classmethod
    def of(cls, fits: Sequence[LRSliceFit]) -> _Interaction:
        """Return what is left of the seeds' levels without the means of settings and of seeds (two-way layout)."""
        levels = [_seed_levels(fit) for fit in fits]
        common = [seed for seed in (levels[0] if levels else {}) if all(seed in own for own in levels)]
        if len(common) < 2 or len(levels) < 2:
            return cls(0.0, 0.0)
        table = np.array([[own[seed] for seed in common] for own in levels])
        rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        df = (table.shape[0] - 1) * (table.shape[1] - 1)
        return cls(2 * float(np.sum(rest**2)) / df, float(df))


def minima_difference(
    a: LRSliceFit,
    b: LRSliceFit,
    margin: float = 0.0,
    *,
    confidence: float = 0.95,
    beside: Sequence[LRSliceFit] = (),
) -> Difference:
    """Return the fitted minimum of a minus that of b, each at its own best LR.

    With two or more common seeds: the mean of the seeds' differences, whose spread counts noise and the interaction of
    seed and setting, plus the error of both basins' positions and shapes, which all seeds of a slice share.

    Two or three seeds tell next to nothing of that spread, so that of all settings together takes its place, unless
    this pair's own is larger.

    Parameters
    ----------
    a, b : LRSliceFit
        Slices whose minima were located.
    margin : float, optional
        Differences up to this size do not matter. Defaults to 0.
    confidence : float, optional
        Of the interval. Defaults to 0.95.
    beside : sequence of LRSliceFit, optional
        Further settings that were swept with the same seeds. Defaults to none.
    """
    shared = _Interaction.of([a, b, *(fit for fit in beside if fit.ok and fit is not a and fit is not b)])
    return _difference(a, b, margin, confidence, shared)


def _difference(a: LRSliceFit, b: LRSliceFit, margin: float, confidence: float, shared: _Interaction) -> Difference:
    left, right = _seed_levels(a), _seed_levels(b)
    common = [seed for seed in left if seed in right]
    shapes = [((fit.basin_se or fit.shape_se or 0.0) ** 2, _spare(fit)) for fit in (a, b)]
    if len(common) >= 2:
        gaps = np.array([left[seed] - right[seed] for seed in common])
        value, sd = float(gaps.mean()), float(gaps.std(ddof=1))
        variance, df = max(sd**2, shared.variance), max(float(gaps.size - 1), shared.df)
        spread = (variance / gaps.size, df)
        shape = (sum(part for part, _ in shapes), satterthwaite(*zip(*shapes, strict=True)))
    else:
        value, sd = _level(a) - _level(b), None
        spread, shape = ((_level_variance(fit), _spare(fit)) for fit in (a, b))
    error = StudentSum((math.sqrt(spread[0]), math.sqrt(shape[0])), (spread[1], shape[1]))
    half = error.half_width(confidence)
    interval = Interval(value - half, value + half, confidence)
    return Difference(
        value=value,
        interval=interval,
        sd=sd,
        df=satterthwaite(*zip(spread, shape, strict=True)),
        p_value=error.two_sided(value),
        n_pairs=len(common) if len(common) >= 2 else 0,
        paired=len(common) >= 2,
        margin=margin,
        verdict=verdict_of(interval, margin),
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
