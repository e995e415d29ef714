"""What range tests say: a bracket for a real sweep, with its spread over seeds, or a refusal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, finite_or_none
from lrscale.laws.range_test.range_rules import (
    check_curve,
    kernel_weights,
    minimum_over_ten,
    slide,
    smooth_log_lr,
    stability_edge,
    steepest,
    valley,
)

MIN_POINTS = 15
# The first tenth of a ramp is where the LR is too small to matter; its mean is the initial loss.
_INITIAL_SHARE = 0.1
_SD_BRACKET = 3.0
# An exceedance of 3 sd somewhere on a flat curve is not rare: two hundred points hold dozens of independent windows,
# and the sd itself is estimated. At 5 sd fewer than one pure-noise curve in a hundred passes for a drop.
_SD_INFORMATIVE = 5.0
_EDGE_SHARE = 0.1
# Thirteen second differences give a noise to 30 %: two of equal noise differ by a factor of 3 once in a hundred curves.
_UNEQUAL = 3.0
# Until it has fallen for good by this part of its drop a loss has the noise of its start.
_HIGH = 0.5
_SLOPE_WIDTHS = 2.5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CurveReading:
    """What one curve says; every LR is None where the curve does not show it."""

    initial: float | None
    """Mean loss of the first tenth of the ramp."""
    best: float | None
    """Lowest smoothed loss."""
    noise_sd: float | None
    """Standard deviation of one recorded loss about the smooth curve; where it falls with the loss, that of the
    start."""
    lo: float | None
    """LR from which the smoothed loss stays 3 sd of its own error below the initial loss until its minimum."""
    hi: float | None
    """Edge: smoothed loss above initial + max(3 sd, 10 % of the drop), or loss not finite."""
    steepest: float | None
    valley: float | None
    slide: float | None
    minimum_over_ten: float | None
    refusal: str | None
    """Why the curve is uninformative, or None."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSpread:
    """One quantity over seeds: geometric mean and range."""

    value: float | None
    lo: float | None
    hi: float | None
    n: int

    @property
    def factor(self) -> float | None:
        """Largest over smallest."""
        return None if self.lo is None or self.hi is None else self.hi / self.lo


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RangeFinding:
    """What a set of range tests says. A range test brackets the LR; it does not measure the best one.

    The steepest point moves with the length of the ramp (as 1 / n), so no rule here may be used to fit a scaling law.
    """

    status: FitStatus
    reason: str
    bracket: tuple[float | None, float | None]
    """(lo, hi): geometric means over informative curves; hi is None when no curve reached the edge."""
    lo: SeedSpread
    hi: SeedSpread
    suggestions: Mapping[str, SeedSpread]
    """By rule: steepest, valley, slide, minimum_over_ten, edge_over_five."""
    agreement_factor: float | None
    """Largest over smallest suggestion among the rules."""
    curves: tuple[CurveReading, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""

        def spread(own: SeedSpread) -> dict[str, Any]:
            return {"value": own.value, "lo": own.lo, "hi": own.hi, "n": own.n}

        return {
            "status": self.status.value,
            "reason": self.reason,
            "bracket": list(self.bracket),
            "lo": spread(self.lo),
            "hi": spread(self.hi),
            "suggestions": {rule: spread(own) for rule, own in self.suggestions.items()},
            "agreement_factor": finite_or_none(self.agreement_factor),
            "curves": [{name: getattr(own, name) for name in CurveReading.__slots__} for own in self.curves],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RangeFinding:
        """Rebuild the finding that `to_dict` wrote."""
        values = dict(data)
        values["status"] = FitStatus(data["status"])
        values["bracket"] = tuple(data["bracket"])
        values["lo"], values["hi"] = SeedSpread(**data["lo"]), SeedSpread(**data["hi"])
        values["suggestions"] = {rule: SeedSpread(**own) for rule, own in data["suggestions"].items()}
        values["curves"] = tuple(CurveReading(**own) for own in data["curves"])
        return cls(**values)

    def summary(self) -> str:
        """Return the finding as text."""
        lines = [f"range test: {self.status.value}", f"  {self.reason}"]
        for rule, own in self.suggestions.items():
            if own.value is not None:
                lines.append(f"  {rule:<17} {own.value:.3g} (seeds {own.lo:.3g} to {own.hi:.3g}, n={own.n})")
        return "\n".join(lines)


def analyse_range_curves(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    diverged_at: Sequence[float | None] | None = None,
    width_decades: float = 0.2,
) -> RangeFinding:
    """Read a set of range tests, one curve a seed.

    Parameters
    ----------
    curves : sequence of (lr, loss)
        LRs positive and increasing; raw (unsmoothed) losses of any sign, averaged over ranks. Non-finite losses mean
        divergence.
    diverged_at : sequence of float or None, optional
        LR at which each curve was stopped as diverged, for curves that end there. Defaults to None for all.
    width_decades : float, optional
        Passed to `smooth_log_lr`. Defaults to 0.2.

    Returns
    -------
    RangeFinding
        Status `not_identifiable` when no curve drops by more than its noise, `too_few_points` when all are shorter than
        15 points, `all_diverged` when every loss is non-finite.

    Raises
    ------
    LrscaleError
        When there is no curve, lengths differ, or LRs are not positive and increasing.

    References
    ----------
    .. [1] Smith. "Cyclical Learning Rates for Training Neural Networks." arXiv:1506.01186 (2015).

    Examples
    --------
    >>> lr = np.geomspace(1e-6, 10, 100)
    >>> finding = analyse_range_curves([(lr, 3 - 2 / (1 + 1e-2 / lr) + lr**2)])
    >>> finding.status.value, finding.bracket[0] < 1e-2 < finding.bracket[1]
    ('ok', True)
    """
    if not curves:
        raise LrscaleError("there is no curve to analyse", hint="pass at least one (lr, loss) pair")
    stops = list(diverged_at) if diverged_at is not None else [None] * len(curves)
    if len(stops) != len(curves):
        raise LrscaleError(
            f"{len(stops)} divergence points for {len(curves)} curves", hint="give one, or None, for each"
        )
    readings = tuple(
        _read(*check_curve(*curve), stop, width_decades) for curve, stop in zip(curves, stops, strict=True)
    )
    good = [own for own in readings if own.refusal is None]
    lo, hi = _spread([own.lo for own in good]), _spread([own.hi for own in good])
    suggestions = {
        "steepest": _spread([own.steepest for own in good]),
        "valley": _spread([own.valley for own in good]),
        "slide": _spread([own.slide for own in good]),
        "minimum_over_ten": _spread([own.minimum_over_ten for own in good]),
        "edge_over_five": _spread([None if own.hi is None else own.hi / 5 for own in good]),
    }
    values = [own.value for own in suggestions.values() if own.value is not None]
    status, reason = _status(readings, good, lo, hi)
    return RangeFinding(
        status=status,
        reason=reason,
        bracket=(lo.value, hi.value),
        lo=lo,
        hi=hi,
        suggestions=suggestions,
        agreement_factor=max(values) / min(values) if values else None,
        curves=readings,
    )


def _read(lr: FloatArray, loss: FloatArray, stop: float | None, width: float) -> CurveReading:
    finite = np.isfinite(loss)
    if not finite.any():
        return _refused("every loss is non-finite")
    if finite.sum() < MIN_POINTS:
        return _refused(f"{int(finite.sum())} finite points are fewer than {MIN_POINTS}")
    smooth = smooth_log_lr(lr, loss, width)
    n_initial = max(3, round(_INITIAL_SHARE * lr.size))
    initial = float(np.mean(loss[finite][:n_initial]))
    lowest = int(np.nanargmin(smooth))
    best = float(smooth[lowest])
    noise = _noise_along(loss[finite], smooth[finite], int(finite[:lowest].sum()), initial)
    # The error of a smoothed point, and of the initial mean it is compared with.
    weights = kernel_weights(lr, finite, width)
    along = np.zeros(lr.size)
    along[finite] = noise
    error = np.sqrt(np.sum((weights * along) ** 2, axis=1) + noise[0] ** 2 / n_initial)
    drop = initial - best
    rounding = 1e-9 * float(np.max(np.abs(loss[finite][: lowest + 1])))
    if drop <= max(_SD_INFORMATIVE * float(error[lowest]), rounding):
        return _refused(
            f"the smoothed loss drops by {max(drop, 0.0):.2g}, within the noise ({noise[0]:.2g} a step)",
            initial,
            best,
            noise[0],
        )
    if int(finite[:lowest].sum()) < n_initial:
        return _refused("the loss is lowest within the first tenth of the ramp", initial, best, noise[0])
    above = np.flatnonzero(~(smooth[: lowest + 1] < initial - np.maximum(_SD_BRACKET * error[: lowest + 1], rounding)))
    first = int(above[-1]) + 1 if above.size else 0
    if smooth[finite][0] - initial > max(_SD_BRACKET * float(error[finite][0]), _EDGE_SHARE * drop):
        return _refused("the loss already falls at the first LR: start the ramp lower", initial, best, noise[0])
    margin = max(_SD_BRACKET * float(np.median(error)), _EDGE_SHARE * drop)
    edge = stability_edge(lr, smooth, initial=initial, margin=margin)
    if stop is not None:
        edge = stop if edge is None else min(edge, stop)
    # A slope needs a wider window than a value, and noise before the fall has slopes too.
    wide = smooth_log_lr(lr, loss, _SLOPE_WIDTHS * width)
    not_below = np.flatnonzero(~(smooth[: lowest + 1] < initial))
    falling = int(not_below[-1]) if not_below.size else 0
    return CurveReading(
        initial=initial,
        best=best,
        noise_sd=float(noise[0]),
        lo=float(lr[min(first, lowest)]),
        hi=edge,
        steepest=steepest(lr[falling : lowest + 1], wide[falling : lowest + 1]),
        valley=valley(lr, smooth),
        slide=slide(lr, smooth, threshold=0.005 * drop),
        minimum_over_ten=minimum_over_ten(lr, smooth),
        refusal=None,
    )


def _noise_along(loss: FloatArray, smooth: FloatArray, lowest: int, initial: float) -> FloatArray:
    """Return the noise of each point: one number, unless it is plainly another at the minimum than at the start.

    Where a loss falls far its noise falls with it: the error of a minimum is not that of the start. It is then taken as
    a straight line in the smoothed loss.
    """
    pooled = _noise_sd(loss[: max(lowest, MIN_POINTS)])
    drop = initial - float(smooth[lowest])
    high = np.flatnonzero(smooth[: lowest + 1] >= initial - _HIGH * drop)
    start = _noise_sd(loss[: max(int(high[-1]) + 1 if high.size else lowest, MIN_POINTS)])
    end = _noise_sd(loss[_floor(smooth, lowest)])
    if drop <= 0 or max(start, end) <= _UNEQUAL * min(start, end):
        return np.full(loss.size, pooled)
    height: FloatArray = np.clip((smooth - smooth[lowest]) / drop, 0.0, 1.0)
    along: FloatArray = end + (start - end) * height
    along[0] = start
    return along


def _floor(smooth: FloatArray, lowest: int) -> slice:
    """Return the lowest points around the minimum that follow each other, as many as a noise needs."""
    first = last = lowest
    while last - first + 1 < min(MIN_POINTS, smooth.size):
        before = smooth[first - 1] if first > 0 else math.inf
        after = smooth[last + 1] if last + 1 < smooth.size else math.inf
        first, last = (first - 1, last) if before <= after else (first, last + 1)
    return slice(first, last + 1)


def _noise_sd(loss: FloatArray) -> float:
    """Return the noise of one point from second differences, robustly; a trend that is locally linear cancels.

    The variance of L[i-1] - 2 L[i] + L[i+1] is six times that of a point; 0.6745 turns a median into a standard
    deviation.
    """
    second = np.abs(loss[:-2] - 2 * loss[1:-1] + loss[2:])
    return float(np.median(second)) / 0.6745 / math.sqrt(6)


def _refused(
    why: str, initial: float | None = None, best: float | None = None, noise: float | None = None
) -> CurveReading:
    return CurveReading(
        initial=initial,
        best=best,
        noise_sd=noise,
        lo=None,
        hi=None,
        steepest=None,
        valley=None,
        slide=None,
        minimum_over_ten=None,
        refusal=why,
    )


def _spread(values: Sequence[float | None]) -> SeedSpread:
    known = [value for value in values if value is not None]
    if not known:
        return SeedSpread(value=None, lo=None, hi=None, n=0)
    return SeedSpread(value=float(np.exp(np.mean(np.log(known)))), lo=min(known), hi=max(known), n=len(known))


def _status(
    readings: Sequence[CurveReading], good: Sequence[CurveReading], lo: SeedSpread, hi: SeedSpread
) -> tuple[FitStatus, str]:
    if good:
        edge = (
            f"becomes unstable at {hi.value:.3g} ({hi.n} of {len(good)} curves, {hi.lo:.3g} to {hi.hi:.3g})"
            if hi.value is not None
            else "was not unstable anywhere on the ramp"
        )
        left_out = f"; {len(readings) - len(good)} curves were uninformative" if len(good) < len(readings) else ""
        return FitStatus.OK, f"The loss falls from LR {lo.value:.3g} and {edge}{left_out}."
    reasons = [own.refusal or "" for own in readings]
    if all(reason.startswith("every loss") for reason in reasons):
        return FitStatus.ALL_DIVERGED, "Every loss of every curve is non-finite."
    short = all("finite points" in reason for reason in reasons)
    return FitStatus.TOO_FEW_POINTS if short else FitStatus.NOT_IDENTIFIABLE, f"No curve is informative: {reasons[0]}."
