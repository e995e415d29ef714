"""The result of fitting a law to loss curves: it predicts other schedules, and says when it cannot rank them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.annealing.curve_draws import errors_of
from lrscale.laws.annealing.schedule_law import SCHEDULE_LAWS, AbstractScheduleLaw
from lrscale.laws.annealing.trace import LRTrace
from lrscale.laws.base import FitStatus, FloatArray, Interval
from lrscale.laws.separable_fit import Estimate

PEAK_TOLERANCE = 0.01
"""Peak LRs within this fraction count as one; neither law carries a fit to another peak."""

TYPICAL_ERROR = 0.003
"""Error of predicted losses on schedules that a fit has not seen, as a fraction of the loss.

Fits of three schedules to public curves of 25M, 100M and 400M models (Luo et al. 2025, arXiv:2503.12811) missed six
other schedules by 0.006 to 0.010 nats at losses of 2.7 to 3.3.
"""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One schedule that a fit has not seen, and how far the fit missed its curves."""

    name: str
    """Names of its curves."""
    n_points: int
    rms_error: float
    """Root mean square of predicted minus observed over its points, in the unit of the loss; points before every point
    of the fit are not counted."""
    final_error: float
    """Predicted minus observed at the last point; below zero when the prediction was too optimistic."""
    decayed: bool
    """Whether its LR falls after the warm-up."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {name: getattr(self, name) for name in self.__slots__}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleGap:
    """Two schedules compared by their predicted final losses."""

    gap: float
    """Final loss of the first minus that of the second."""
    margin: float
    """Gap below which the law cannot rank."""
    lower: Literal["first", "second", "cannot tell"]
    """Which has the lower loss."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {name: getattr(self, name) for name in self.__slots__}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLawFit:
    """A law of the loss against the step, and its error on schedules that it has not seen."""

    law: str
    """Name in the registry of schedule laws."""
    formula: str
    status: FitStatus
    reason: str
    """One sentence with the numbers behind the status."""
    estimates: tuple[Estimate, ...] = ()
    """The parameters as published, in the units of LR, step and loss; their intervals leave whole schedules out."""
    params: tuple[float, ...] = ()
    """The parameters in units of `peak_lr` and `longest`, in the law's order."""
    curves: tuple[str, ...]
    """Names of the curves that were fitted."""
    n_schedules: int
    """Different LR histories among them."""
    n_points: int
    peak_lr: float | None = None
    """Peak LR of every curve; the fit speaks of no other."""
    longest: float | None = None
    """Steps of the longest curve."""
    furthest: float | None = None
    """Largest sum of LRs of a fitted curve, in units of `peak_lr` and `longest`."""
    mean_loss: float | None = None
    """Mean of the last losses of the curves: the scale of what is typical."""
    residual_sd: float | None = None
    """Root mean square of the residuals of ln(loss); never used to choose a law or to make an interval smaller."""
    held_out: tuple[HeldOut, ...] = ()
    """Each schedule that was left out in turn, and the one that was asked for."""
    held_out_rmse: float | None = None
    """Root mean square of their errors, each schedule counted once; None where none could be left out."""
    runner_up: str | None = None
    runner_up_rmse: float | None = None
    """The same for the other law."""
    draws: tuple[tuple[float, ...], ...] = ()
    """Draws of what a prediction errs by: see `draw_errors`."""
    notes: tuple[str, ...] = ()
    """What a reader must know before using the numbers, as sentences."""
    confidence: float = 0.95

    @property
    def ok(self) -> bool:
        """Whether the curves determine the law."""
        return self.status is FitStatus.OK

    @property
    def rank_margin(self) -> float:
        """Gap of predicted final losses above which two schedules are ranked.

        Twice the held-out error; where that is unknown, 0.6 % of the loss, which is 0.02 nats at a loss of 3.3.
        """
        return 2 * (TYPICAL_ERROR * (self.mean_loss or math.nan) if self.held_out_rmse is None else self.held_out_rmse)

    def estimate(self, name: str) -> Estimate:
        """Return a parameter; raise LrscaleError when there is none of that name."""
        for estimate in self.estimates:
            if estimate.name == name:
                return estimate
        known = ", ".join(one.name for one in self.estimates)
        raise LrscaleError(f"the fit has no {name}: {self.reason}", hint=f"it has {known}" if known else None)

    def predict(self, trace: LRTrace, step: ArrayLike | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Predict the loss trajectory of a schedule.

        Parameters
        ----------
        trace : LRTrace
            Its LR history, with the peak LR of the fit.
        step : array-like of shape (n,), optional
            Steps after the warm-up. Default None: the last one.

        Returns
        -------
        value, lo, hi : arrays of shape (n,)
            The law's value, and the interval in which an observed loss falls. It counts what the curves leave open
            about the parameters, the offset of a run, the noise of a point, and by how much the gain of a schedule
            departs from the law, as the fitted schedules show it (see `draw_errors`).

        Raises
        ------
        LrscaleError
            When no law was fitted, the peak LR is another, or a step lies outside the run.
        """
        law = self._bound(trace)
        at = np.atleast_1d(np.asarray([trace.last_step] if step is None else step, dtype=np.float64))
        wrong = ~((at >= max(trace.warmup_end, 1.0)) & (at <= trace.last_step))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise LrscaleError(
                f"row {row}: step {at[row]:g} is not between the end of the warm-up at {trace.warmup_end:g} and the "
                f"end of the run at {trace.last_step:g}",
                hint="the law describes what follows the warm-up",
            )
        order, back = np.unique(at, return_inverse=True)
        bound = law.bind([trace], [order])
        params = np.asarray(self.params)[None]
        value: FloatArray = bound.evaluate(params, bound.rows)[0, back]
        off = errors_of(np.asarray(self.draws), bound, params[0], self.furthest or math.inf)[:, back]
        tail = 50 * (1 - self.confidence)
        lo, hi = np.percentile(off, [tail, 100 - tail], axis=0)
        return value, value + np.minimum(lo, 0.0), value + np.maximum(hi, 0.0)

    def predict_final(self, trace: LRTrace) -> Estimate:
        """Predict the loss at the end of a schedule, with its interval; raises as `predict` does."""
        value, lo, hi = self.predict(trace)
        interval = Interval(float(lo[0]), float(hi[0]), self.confidence)
        return Estimate(name="final_loss", value=float(value[0]), interval=interval, unit="loss", meaning="predicted")

    def compare(self, first: LRTrace, second: LRTrace) -> ScheduleGap:
        """Rank two schedules by their predicted final losses, if the gap is larger than what the law can tell."""
        gap = float(self.predict(first)[0][0] - self.predict(second)[0][0])
        margin = self.rank_margin
        known = self.held_out_rmse is not None
        source = "twice the held-out error" if known else "0.6 % of the loss, as no schedule was left out"
        told = abs(gap) > margin and self.ok
        verdict: Literal["first", "second", "cannot tell"] = "cannot tell"
        if told:
            verdict = "first" if gap < 0 else "second"
        relation = "exceeds" if abs(gap) > margin else "is within"
        reason = f"The predicted gap of {abs(gap):.4g} {relation} {margin:.4g}, {source}."
        if not self.ok:
            reason = f"The fit is {self.status.value}: {self.reason}"
        return ScheduleGap(gap=gap, margin=margin, lower=verdict, reason=reason)

    def can_rank(self, first: LRTrace, second: LRTrace) -> bool:
        """Return whether the predicted final losses of two schedules differ by more than the law can tell."""
        return self.compare(first, second).lower != "cannot tell"

    def _bound(self, trace: LRTrace) -> AbstractScheduleLaw:
        if not self.params or self.peak_lr is None or self.longest is None:
            raise LrscaleError(f"the {self.law} law was not fitted: {self.reason}", hint="look at the status first")
        if abs(trace.peak / self.peak_lr - 1) > PEAK_TOLERANCE:
            raise LrscaleError(
                f"the schedule peaks at an LR of {trace.peak:g}, the fitted curves at {self.peak_lr:g}, and the law "
                "does not carry from one peak to another",
                hint="fit curves with that peak",
            )
        return SCHEDULE_LAWS[self.law](lr_unit=self.peak_lr, step_unit=self.longest)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        plain: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["status"] = self.status.value
        plain["estimates"] = [one.to_dict() for one in self.estimates]
        plain["held_out"] = [one.to_dict() for one in self.held_out]
        plain["draws"] = [list(row) for row in self.draws]
        for name in ("params", "curves", "notes"):
            plain[name] = list(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CurveLawFit:
        """Rebuild the fit that `to_dict` wrote."""
        values = {one.name: data[one.name] for one in fields(cls)}
        values["status"] = FitStatus(data["status"])
        values["estimates"] = tuple(Estimate.from_dict(one) for one in data["estimates"])
        values["held_out"] = tuple(HeldOut(**one) for one in data["held_out"])
        values["draws"] = tuple(tuple(row) for row in data["draws"])
        for name in ("params", "curves", "notes"):
            values[name] = tuple(values[name])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text, one quantity a line."""
        lines = [
            f"{self.law.replace('_', ' ')} law of the loss curve: {self.status.value}",
            f"  {self.reason}",
            f"  {self.formula}",
            f"  points            {self.n_points} on {len(self.curves)} curves of {self.n_schedules} schedules",
        ]
        if self.peak_lr is not None:
            lines.append(f"  peak LR           {self.peak_lr:.4g}")
        lines += [f"  {one.name:<17} {one.text()}" for one in self.estimates]
        if self.residual_sd is not None:
            lines.append(f"  residual sd       {self.residual_sd:.3g} (log)")
        for one in self.held_out:
            lines.append(f"  left out          {one.name}: rms error {one.rms_error:.4f}, final {one.final_error:+.4f}")
        if self.held_out_rmse is not None:
            lines.append(
                f"  held-out error    {self.held_out_rmse:.4f}; schedules closer than {self.rank_margin:.4f} tie"
            )
        if self.runner_up is not None:
            error = "" if self.runner_up_rmse is None else f" (held-out error {self.runner_up_rmse:.4f})"
            lines.append(f"  runner-up         {self.runner_up.replace('_', ' ')}{error}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)
