"""The slice near the lowest of short runs at fixed LR: which runs a curve is fitted to, and what that choice costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy.special import ndtri, stdtrit

from lrscale.laws.base import FitStatus, FloatArray, Interval
from lrscale.laws.lr_slice.slice import fit_lr_slice
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.noise import decompose
from lrscale.laws.range_test.confirmation import FixedRun
from lrscale.laws.runs import Runs, read_runs

LEAST_GAIN = 0.1
"""Share of the largest gain below which a run above the best LR has not trained; the bound of a ramp's edge is the same
share of its descent."""
BASIN_GAIN = 0.5
"""Share of the largest gain below which a run is no part of the basin, the widest window."""
NEAR_SHARE = 0.1
"""Share of the drop up to which a mean loss lies near the lowest: where losses level out above the best LR, and on
their way to the start, a power law of the LR has nothing to follow."""
NEAR_REACH = math.log(8.0)
"""Distance from the lowest LR, in ln(LR), up to which a run is near it: three doublings."""
_LEAST = 2
_ROUNDING = 1e-6
_LEAST_NOISE_DF = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSlice:
    """What the runs near the lowest say of the best LR."""

    status: FitStatus
    reason: str
    fit: LRSliceFit
    """The curve; its interval counts the model error. It may be undetermined although the status is ok: `reason`."""
    wide: LRSliceFit
    """The same through all runs of the basin: what a far LR costs."""
    lr: float | None
    """Only when the status is ok."""
    interval: Interval | None
    equivalence: tuple[float, float] | None
    model_error: float
    """Standard deviation, in ln(LR), that the choice of the window adds: the difference of the minima of the local and
    the wide curve, less what their noise explains."""

    def regret(self, lr: float) -> tuple[float, float, float] | None:
        """Return the expected loss at an LR minus the lowest, with its interval; None without a curve."""
        inside = min(self.fit.lr) <= lr <= max(self.fit.lr)
        curve = self.fit if inside or not self.wide.curve_draws else self.wide
        if not curve.curve_draws:
            return None
        middle, low, high = curve.regret([lr])
        return float(middle[0]), float(low[0]), float(high[0])


def fit_local_slice(runs: Sequence[FixedRun], *, tolerance: float, confidence: float) -> LocalSlice:
    """Fit the slice to the runs near the lowest, in the narrowest window that determines a minimum.

    The windows, from narrow to wide: mean losses within `NEAR_SHARE` of the drop and LRs within `NEAR_REACH` of the
    lowest; LRs within `NEAR_REACH`; the basin. Two LRs on each side of the lowest are part of each, and runs that did
    not train are, as bounds. The wide curve leans on more runs and is the surer one where its form is right. If it is,
    the minima of both differ by a variable whose variance is the difference of theirs (Hausman 1978, Econometrica 46);
    what the square of the difference exceeds that by counts as error of the form, in the interval of the local one.

    Where no curve determines a minimum, the runs may still bracket it: LRs on both sides end higher than the lowest by
    more than their noise, or diverged. Then the minimum lies between them, if there is one only; the LR is where the
    narrowest curve has it, between the neighbours of the lowest.

    Parameters
    ----------
    runs : sequence of FixedRun
        At least one.
    tolerance, confidence : float
        As for `fit_lr_slice`.
    """
    stuck = stuck_runs(runs)
    wide = _fit(_basin(runs, stuck), stuck, tolerance, confidence)
    trained = [run for run in runs if run.loss is not None and run not in stuck]
    if not trained:
        return _without(wide)
    narrow: LRSliceFit | None = None
    for window in _windows(runs, trained, stuck):
        fit = _fit(window, stuck, tolerance, confidence)
        narrow = narrow or fit
        if fit.ok:
            return _with_model_error(fit, wide, confidence)
    bracket = None if wide.ok else _bracket(runs, trained, stuck, wide, confidence)
    if bracket is None or narrow is None:
        return _without(wide)
    return _bracketed(bracket, trained, narrow, wide, confidence)


def stuck_runs(runs: Sequence[FixedRun]) -> list[FixedRun]:
    """Return the runs above the lowest LR that gained next to nothing: at a small LR that is slowness."""
    best, gains = lowest_lr(runs), [run.gain for run in runs if run.gain is not None]
    if best is None or not gains:
        return []
    bound = LEAST_GAIN * max(gains)
    return [run for run in runs if run.lr > best and run.gain is not None and run.gain < bound]


def lowest_lr(runs: Sequence[FixedRun]) -> float | None:
    """Return the LR with the lowest mean loss, seed levels removed, among those that trained in every run."""
    if not any(run.loss is not None for run in runs):
        return None
    read = _read(runs)
    distinct, means = np.unique(read.lr[read.kept]), decompose(read).lr_means
    blown = set(read.lr[read.diverged])
    order = sorted(zip(means, distinct, strict=True), key=lambda pair: (pair[1] in blown, pair[0]))
    return float(order[0][1])


def _read(runs: Iterable[FixedRun]) -> Runs:
    rows = list(runs)
    return read_runs([run.lr for run in rows], [run.loss for run in rows], None, [run.seed for run in rows])


def _fit(kept: Sequence[FixedRun], stuck: Sequence[FixedRun], tolerance: float, confidence: float) -> LRSliceFit:
    return fit_lr_slice(
        [run.lr for run in kept],
        [run.loss for run in kept],
        diverged=[run.loss is None or run in stuck for run in kept],
        seed=[run.seed for run in kept],
        tolerance=tolerance,
        confidence=confidence,
    )


def _basin(runs: Sequence[FixedRun], stuck: Sequence[FixedRun]) -> list[FixedRun]:
    """Return the runs without those whose gain is far from the largest.

    A loss on its way to the start says nothing about the place of the minimum, and a curve through it does worse there.
    """
    best, gains = lowest_lr(runs), [run.gain for run in runs if run.gain is not None and run.loss is not None]
    if best is None or not gains:
        return list(runs)
    tried = sorted({run.lr for run in runs})
    place = tried.index(best)
    near, bound = tried[max(0, place - _LEAST) : place + _LEAST + 1], BASIN_GAIN * max(gains)
    return [
        run
        for run in runs
        if run.loss is None or run.lr in near or run in stuck or run.gain is None or run.gain >= bound
    ]


def _windows(
    runs: Sequence[FixedRun], trained: Sequence[FixedRun], stuck: Sequence[FixedRun]
) -> tuple[list[FixedRun], list[FixedRun]]:
    """Return the runs near the lowest by loss and LR, and by LR alone."""
    distinct, means, _ = _means(trained)
    place = int(np.argmin(np.abs(distinct - (lowest_lr(runs) or 0.0))))
    finite = [run.loss for run in runs if run.loss is not None]
    # The loss at the start is known by the gains; without them the runs show a part of the drop.
    drop = max([max(finite) - min(finite), *(run.gain for run in trained if run.gain is not None)])
    close = np.abs(np.log(distinct / distinct[place])) <= NEAR_REACH + _ROUNDING
    low = means <= means[place] + NEAR_SHARE * drop

    def window(inside: np.ndarray) -> list[FixedRun]:
        first, last = max(place - _LEAST, 0), min(place + _LEAST, distinct.size - 1)
        while first > 0 and inside[first - 1 : place].all():
            first -= 1
        while last < distinct.size - 1 and inside[place : last + 2].all():
            last += 1
        return [run for run in runs if run.loss is None or run in stuck or distinct[first] <= run.lr <= distinct[last]]

    return window(close & low), window(close)


def _means(trained: Sequence[FixedRun]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the distinct LRs, their mean losses without seed levels, and the number of runs at each."""
    read = _read(trained)
    distinct, count = np.unique(read.lr, return_counts=True)
    return distinct, decompose(read).lr_means, count.astype(np.float64)


def _with_model_error(fit: LRSliceFit, wide: LRSliceFit, confidence: float) -> LocalSlice:
    error, interval, reason = 0.0, fit.interval, fit.reason
    assert fit.vertex is not None
    assert fit.best_lr is not None
    if fit is not wide and wide.vertex is not None:
        explained = max(_spread(fit) ** 2 - _spread(wide) ** 2, 0.0)
        error = math.sqrt(max((fit.vertex - wide.vertex) ** 2 - explained, 0.0))
    if error > 0 and interval is not None:
        reach = float(ndtri((1 + confidence) / 2)) * error
        lo = (
            None
            if interval.lo is None
            else math.exp(fit.vertex - math.hypot(fit.vertex - math.log(interval.lo), reach))
        )
        hi = (
            None
            if interval.hi is None
            else math.exp(fit.vertex + math.hypot(math.log(interval.hi) - fit.vertex, reach))
        )
        if hi is not None and fit.diverged_above is not None:
            hi = min(hi, fit.diverged_above)
        interval = Interval(lo, hi, confidence)
        reason += (
            f" A curve through the whole basin has its minimum at {math.exp(wide.vertex or 0.0):.3g}; the interval "
            "counts what noise does not explain of the difference."
        )
        fit = replace(fit, interval=interval, reason=reason)
    return LocalSlice(
        status=fit.status,
        reason=reason,
        fit=fit,
        wide=wide,
        lr=fit.best_lr,
        interval=interval,
        equivalence=_equivalence(fit, wide),
        model_error=error,
    )


def _spread(fit: LRSliceFit) -> float:
    low, high = np.percentile(fit.vertex_draws, [15.87, 84.13])
    return float(high - low) / 2


def _equivalence(fit: LRSliceFit, wide: LRSliceFit) -> tuple[float, float] | None:
    """Return the LRs that are not told apart; beyond the ends of the local window the wide curve says how far."""
    if fit.equivalence is None or wide.equivalence is None:
        return fit.equivalence
    lo, hi = fit.equivalence
    trained = [lr for lr, loss in zip(fit.lr, fit.loss, strict=True) if loss is not None]
    if lo <= min(trained) * (1 + _ROUNDING):
        lo = min(lo, wide.equivalence[0])
    if hi >= max(trained) * (1 - _ROUNDING):
        hi = max(hi, wide.equivalence[1])
    return lo, hi


def _without(wide: LRSliceFit) -> LocalSlice:
    return LocalSlice(
        status=wide.status,
        reason=wide.reason,
        fit=wide,
        wide=wide,
        lr=wide.best_lr,
        interval=wide.interval,
        equivalence=wide.equivalence,
        model_error=0.0,
    )


def _bracket(
    runs: Sequence[FixedRun],
    trained: Sequence[FixedRun],
    stuck: Sequence[FixedRun],
    wide: LRSliceFit,
    confidence: float,
) -> tuple[float, float] | None:
    """Return the nearest LRs on both sides of the lowest that are surely worse; None where a side has none.

    One-sided t tests at half of the error each, shared among the LRs of the side (Bonferroni); the noise is that of
    replicates, else that about the wide curve.
    """
    distinct, means, count = _means(trained)
    parts = decompose(_read(trained))
    if parts.df >= _LEAST_NOISE_DF:
        sd, df = math.sqrt(float(np.sum(parts.residuals**2)) / parts.df), float(parts.df)
    elif wide.noise_sd is not None and wide.noise_df is not None:
        sd, df = wide.noise_sd, wide.noise_df
    else:
        return None
    place = int(np.argmin(means))

    def nearest(side: Sequence[int]) -> float | None:
        if not side:
            return None
        bound = float(stdtrit(df, 1 - (1 - confidence) / 2 / len(side))) * sd
        for index in side:
            if means[index] - means[place] > bound * math.sqrt(1 / count[index] + 1 / count[place]):
                return float(distinct[index])
        return None

    below, above = nearest(range(place - 1, -1, -1)), nearest(range(place + 1, distinct.size))
    blown = [run.lr for run in runs if (run.loss is None or run in stuck) and run.lr > distinct[place]]
    if blown:
        above = min(blown) if above is None else min(above, *blown)
    return None if below is None or above is None else (below, above)


def _bracketed(
    bracket: tuple[float, float],
    trained: Sequence[FixedRun],
    near: LRSliceFit,
    wide: LRSliceFit,
    confidence: float,
) -> LocalSlice:
    distinct, means, _ = _means(trained)
    place = int(np.argmin(means))
    lr = lowest = float(distinct[place])
    if near.vertex is not None:
        lr = float(
            np.clip(math.exp(near.vertex), distinct[place - 1], min(distinct[place + 1 : place + 2], default=lr))
        )
    return LocalSlice(
        status=FitStatus.OK,
        reason=(
            f"No curve determines a minimum, but the runs bracket it: those at {bracket[0]:.3g} and {bracket[1]:.3g} "
            f"end worse than those at {lowest:.3g} by more than their noise. {wide.reason}"
        ),
        fit=near,
        wide=wide,
        lr=lr,
        interval=Interval(*bracket, confidence),
        equivalence=None,
        model_error=0.0,
    )
