"""The curves that a fit of loss curves is given: whether they can answer, the fits themselves, and their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, stdtrit

from lrscale.laws.annealing.curve import Curve, schedule_numbers
from lrscale.laws.annealing.curve_draws import Residuals, draw_errors
from lrscale.laws.annealing.curve_law_fit import PEAK_TOLERANCE, CurveLawFit, HeldOut
from lrscale.laws.annealing.schedule_law import AbstractScheduleLaw
from lrscale.laws.annealing.search import fit_each
from lrscale.laws.base import FitStatus, FloatArray, Interval, Parameter
from lrscale.laws.separable_fit import Estimate

# The points of a curve share their noise: more of them cost time and tell little.
_POINTS = 128
FEWEST_POINTS = 5
# A law that misses unseen schedules by more than this fraction of the spread of the losses explains too little.
_POOR = 0.5
# An interval wider than this factor either way, in ln, is called unbounded.
_OPEN = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One law fitted to a study."""

    law: AbstractScheduleLaw
    params: FloatArray
    """Of all schedules, then without each of them, (1 + folds, n_parameters)."""
    bound: AbstractScheduleLaw
    """The law bound to the fitted points, n in all."""
    left: Residuals
    """Observed minus fitted losses of these points."""
    residuals: FloatArray
    """Of ln(loss) with all schedules, (n,)."""
    held_out: tuple[HeldOut, ...]

    @property
    def error(self) -> float | None:
        """Root mean square error on the schedules left out, each counted once."""
        if not self.held_out:
            return None
        return math.sqrt(sum(one.rms_error**2 for one in self.held_out) / len(self.held_out))


def clearly_better(one: Found, simpler: Found) -> bool:
    """Return whether a law misses unseen schedules by less than one with fewer parameters, beyond chance.

    With three schedules the ratio of the errors has a wide distribution. In 54 fits of three of nine public schedules
    (Luo et al. 2025) the multi-power law had the smaller error on schedules left out in 30, and predicted the other six
    better in 6 of these. So the ratio of mean squares must pass an F test at 10 %.
    """
    if one.error is None or simpler.error is None:
        return False
    count = len(one.held_out)
    return one.error**2 * float(fdtri(count, count, 0.9)) < simpler.error**2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The curves that take part."""

    fitted: tuple[Curve, ...]
    numbers: tuple[int, ...]
    """Schedule of each fitted curve."""
    kept_out: tuple[Curve, ...]
    """Curves of the schedule that the caller holds out."""
    n_given: int
    notes: tuple[str, ...]

    @classmethod
    def of(cls, curves: Sequence[Curve], held_out: str | None) -> Study:
        """Sort out diverged curves, and those of the schedule to hold out."""
        fine = [curve for curve in curves if not curve.diverged]
        lost = [curve.name for curve in curves if curve.diverged]
        notes = [f"Left out because a loss is not finite: {', '.join(lost)}."] if lost else []
        numbers = schedule_numbers(fine)
        away = {number for curve, number in zip(fine, numbers, strict=True) if curve.name == held_out}
        kept = [(curve, number) for curve, number in zip(fine, numbers, strict=True) if number not in away]
        return cls(
            fitted=tuple(curve for curve, _ in kept),
            numbers=tuple(number for _, number in kept),
            kept_out=tuple(curve for curve, number in zip(fine, numbers, strict=True) if number in away),
            n_given=len(curves),
            notes=tuple(notes),
        )

    def problem(self) -> tuple[FitStatus, str] | None:
        """Return why these curves cannot answer, if they cannot."""
        if not self.fitted and not self.kept_out:
            return FitStatus.ALL_DIVERGED, f"All {self.n_given} curves hold a loss that is not finite."
        count = len(set(self.numbers))
        if count < 2:
            return (
                FitStatus.TOO_FEW_POINTS,
                f"The curves to fit follow {count} schedule{'s' * (count != 1)} and two are needed: one cosine alone "
                "leaves alpha anywhere between 0.34 and 1.17.",
            )
        everyone = (*self.fitted, *self.kept_out)
        short = min(everyone, key=lambda curve: curve.fitted_step.size)
        if short.fitted_step.size < FEWEST_POINTS:
            return (
                FitStatus.TOO_FEW_POINTS,
                f"Curve {short.name} has {short.fitted_step.size} points after step {short.start:g}, where its fit "
                f"starts, and {FEWEST_POINTS} are needed.",
            )
        low = min(everyone, key=lambda curve: curve.trace.peak)
        high = max(everyone, key=lambda curve: curve.trace.peak)
        if high.trace.peak > low.trace.peak * (1 + PEAK_TOLERANCE):
            return (
                FitStatus.NOT_IDENTIFIABLE,
                f"The peak LRs differ, {low.trace.peak:g} for {low.name} and {high.trace.peak:g} for {high.name}, and "
                "neither law carries from one peak to another.",
            )
        if not any(curve.trace.drops_abruptly for curve in self.fitted):
            return (
                FitStatus.NOT_IDENTIFIABLE,
                f"None of the {count} schedules drops its LR abruptly (by 20 % of the peak while the steps grow by "
                "10 %): one cosine leaves alpha anywhere between 0.34 and 1.17.",
            )
        return None

    def fit(self, kind: type[AbstractScheduleLaw]) -> Found:
        """Fit one law to all schedules, and to all but each."""
        rows = [_spread_out(curve.fitted_step.size) for curve in self.fitted]
        steps = [curve.fitted_step[own] for curve, own in zip(self.fitted, rows, strict=True)]
        loss = np.concatenate([curve.fitted_loss[own] for curve, own in zip(self.fitted, rows, strict=True)])
        free = kind(
            lr_unit=max(curve.trace.peak for curve in self.fitted),
            step_unit=max(curve.trace.last_step for curve in self.fitted),
        )
        law = free.bind([curve.trace for curve in self.fitted], steps)
        number = np.repeat(self.numbers, [step.size for step in steps])
        folds = sorted(set(self.numbers))
        folds = folds if len(folds) > 2 else []
        weight = np.stack([np.ones(loss.size), *((number != fold).astype(np.float64) for fold in folds)])
        params, residuals = fit_each(law, loss, weight)
        held = []
        for i, fold in enumerate(folds):
            away = [curve for curve, own in zip(self.fitted, self.numbers, strict=True) if own == fold]
            kept = [curve for curve, own in zip(self.fitted, self.numbers, strict=True) if own != fold]
            held.append(_missed(free, params[1 + i], away, kept))
        if self.kept_out:
            held.append(_missed(free, params[0], self.kept_out, self.fitted))
        run = np.repeat(np.arange(len(steps)), [step.size for step in steps])
        left = Residuals(gap=loss - law.evaluate(params[:1], law.rows)[0], run=run, schedule=number)
        return Found(law=free, params=params, bound=law, left=left, residuals=residuals, held_out=tuple(held))

    def result(self, best: Found, other: Found | None, confidence: float) -> CurveLawFit:
        """Return the fit of the better law with its status."""
        losses = np.concatenate([curve.fitted_loss for curve in self.fitted])
        spread = float(np.std(losses))
        parameters = dict(zip((one.name for one in best.law.parameters), best.params[0], strict=True))
        status, reason = FitStatus.OK, self._verdict(best)
        notes = list(self.notes)
        alpha = best.law.parameters[2]
        stuck = [name for name, value in parameters.items() if _at_bound(best.law, name, float(value))]
        if {"alpha", "A"} & set(stuck):
            status = FitStatus.NOT_IDENTIFIABLE
            reason = (
                f"The exponent alpha of the sum of LRs ends at {parameters['alpha']:.3g}, in [{alpha.lower:g}, "
                f"{alpha.upper:g}], with an amplitude of {parameters['A']:.3g}: the curves show no power law."
            )
        elif best.error is not None and best.error > _POOR * spread:
            status = FitStatus.POOR_FIT
            reason = (
                f"Schedules left out are missed by {best.error:.4g}, more than half of the spread of all losses, "
                f"{spread:.4g}."
            )
        rest = [name for name in stuck if name not in ("alpha", "A", "L0")]
        if rest:
            notes.append(f"At a bound: {', '.join(rest)}. Predictions may still hold, the value of {rest[0]} does not.")
        if best.error is None:
            notes.append(
                "No schedule could be left out to check the law; intervals rest on by how much public curves depart."
            )
        if other is not None and other.error is not None and best.error is not None and other.error < best.error:
            notes.append(
                f"The {other.law.name.replace('_', ' ')} law missed unseen schedules by less, {other.error:.4g}, which "
                f"{len(other.held_out)} schedules do not tell from chance; the law with fewer parameters is kept."
            )
        notes.append("L0 is a convention (warm-up rises are not counted as drops), no irreducible loss.")
        sizes = best.residuals.size - len(best.law.parameters)
        return CurveLawFit(
            law=best.law.name,
            formula=best.law.formula,
            status=status,
            reason=reason,
            estimates=_estimates(best, confidence),
            params=tuple(float(value) for value in best.params[0]),
            curves=tuple(curve.name for curve in self.fitted),
            n_schedules=len(set(self.numbers)),
            n_points=int(losses.size),
            peak_lr=best.law.lr_unit,
            longest=best.law.step_unit,
            furthest=max(float(one.area.max()) for one in best.bound.timelines),
            mean_loss=float(np.mean([curve.fitted_loss[-1] for curve in self.fitted])),
            residual_sd=math.sqrt(float(best.residuals @ best.residuals) / max(sizes, 1)),
            held_out=best.held_out,
            held_out_rmse=best.error,
            runner_up=None if other is None else other.law.name,
            runner_up_rmse=None if other is None else other.error,
            draws=tuple(
                tuple(float(f"{value:.9g}") for value in row)
                for row in draw_errors(best.bound, best.params[0], best.left)
            ),
            notes=tuple(notes),
            confidence=confidence,
        )

    def _verdict(self, best: Found) -> str:
        count = len(set(self.numbers))
        sudden = {own for curve, own in zip(self.fitted, self.numbers, strict=True) if curve.trace.drops_abruptly}
        known = f"{count} schedules, of which {len(sudden)} drop the LR abruptly, determine the law"
        if best.error is None:
            return f"{known}; none could be left out to check it."
        return f"{known}; {len(best.held_out)} that it had not seen were missed by {best.error:.4g}."


def _spread_out(size: int) -> NDArray[np.intp]:
    """Return at most 128 evenly spaced rows with the first and the last."""
    return np.unique(np.round(np.linspace(0, size - 1, min(size, _POINTS))).astype(np.intp))


def _missed(law: AbstractScheduleLaw, params: FloatArray, away: Sequence[Curve], fitted: Sequence[Curve]) -> HeldOut:
    """Return how far a fit missed the curves of one schedule.

    Points that lie before every fitted point do not count: a trunk that was fitted to its cooldowns alone says nothing
    of its first steps, and nobody asks it to.
    """
    first = min(float(curve.trace.area_at(curve.fitted_step[0])) for curve in fitted)
    steps = [curve.fitted_step for curve in away]
    bound = law.bind([curve.trace for curve in away], steps)
    error = bound.evaluate(params[None], bound.rows)[0] - np.concatenate([curve.fitted_loss for curve in away])
    ends = np.cumsum([step.size for step in steps]) - 1
    counted = np.concatenate([c.trace.area_at(step) >= first for c, step in zip(away, steps, strict=True)])
    counted[ends] = True
    return HeldOut(
        name=", ".join(curve.name for curve in away),
        n_points=int(counted.sum()),
        rms_error=math.sqrt(float(np.mean(error[counted] ** 2))),
        final_error=float(np.mean(error[ends])),
        decayed=any(curve.trace.decayed for curve in away),
    )


def _at_bound(law: AbstractScheduleLaw, name: str, value: float) -> bool:
    parameter = next(one for one in law.parameters if one.name == name)
    if parameter.linear:
        return value <= 0
    reach = 1e-6 * (parameter.upper - parameter.lower)
    return not parameter.lower + reach < value < parameter.upper - reach


def _estimates(found: Found, confidence: float) -> tuple[Estimate, ...]:
    """Return the published parameters with jackknife intervals over schedules (Efron 1982); open with fewer than three.

    Positive parameters on the logarithmic scale, a share as the logarithm of its complement.
    """
    table = found.law.in_units(found.params)
    rows = []
    for i, parameter in enumerate(found.law.reported):
        interval = _jackknife(table[:, i], parameter, confidence)
        rows.append(
            Estimate(
                name=parameter.name,
                value=float(table[0, i]),
                interval=interval,
                unit=parameter.unit,
                meaning=parameter.meaning,
            )
        )
    return tuple(rows)


def _jackknife(values: FloatArray, parameter: Parameter, confidence: float) -> Interval:
    count = values.size - 1
    share = parameter.name == "lambda"
    inner = 1 - values if share else values
    if count < 3 or not (np.isfinite(inner) & (inner > 0)).all():
        return Interval(None, None, confidence)
    logs = np.log(inner)
    left_out = logs[1:]
    se = math.sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * se
    if half > _OPEN:
        return Interval(None, None, confidence)
    lo, hi = math.exp(logs[0] - half), math.exp(logs[0] + half)
    return Interval(1 - hi, 1 - lo, confidence) if share else Interval(lo, hi, confidence)
