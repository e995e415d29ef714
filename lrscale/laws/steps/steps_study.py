"""What a fitted hyperbola of the steps says: status, parameters, critical batch sizes, and what each batch costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.laws.base import FitStatus, FloatArray, Interval
from lrscale.laws.choice import Holdout, aicc
from lrscale.laws.separable_fit import Estimate, LawFit
from lrscale.laws.steps.exponent import Exponent, find_exponent
from lrscale.laws.steps.hyperbola import FREE_STEPS_HYPERBOLA, STEPS_HYPERBOLA
from lrscale.laws.steps.knee import Knee, bend, best_curve, find_knee
from lrscale.laws.steps.steps_data import StepsData
from lrscale.laws.steps.steps_result import BatchUnit, TradeOff, inverted, scaled

_KEPT_DRAWS = 500
# Exponents of public tables are 0.97 to 1.07: a departure beyond this is another curve, not another data set.
_POOR_EXPONENT = 1.1
_UNLIKELY = 0.05
_SAME_EXPONENT = 0.005
# Fewer reached batch sizes leave nothing to predict the others from.
_FEWEST_TO_LEAVE_OUT = 4
_LEFT_OUT_REFINEMENTS = 2
_MOST = 300.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A fitted hyperbola with what is derived from it."""

    data: StepsData
    knee: Knee
    exponent: Exponent | None
    critical: Interval
    draws: FloatArray
    """S_min and E_min, shape (r, 2)."""
    unit: BatchUnit

    @classmethod
    def of(
        cls,
        data: StepsData,
        noise_sd: float | None,
        confidence: float,
        resamples: int,
        random_seed: int,
        unit: BatchUnit,
    ) -> Study:
        """Fit the hyperbola and draw its parameters."""
        knee = find_knee(data, noise_sd)
        lo, hi = knee.interval(confidence)
        return cls(
            data=data,
            knee=knee,
            exponent=find_exponent(data, knee, confidence),
            critical=Interval(None if lo is None else math.exp(lo), None if hi is None else math.exp(hi), confidence),
            draws=_draw(data, knee, max(resamples, 1), np.random.default_rng(random_seed)),
            unit=unit,
        )

    @property
    def status(self) -> FitStatus:
        """Which ends of the critical batch size are known, and whether the law describes the data."""
        if self.bent:
            return FitStatus.POOR_FIT
        match (self.critical.lo, self.critical.hi):
            case (None, None):
                return FitStatus.NOT_IDENTIFIABLE
            case (_, None):
                return FitStatus.CENSORED_HIGH
            case (None, _):
                return FitStatus.CENSORED_LOW
        return FitStatus.OK

    @property
    def bent(self) -> bool:
        """Whether the whole interval of the exponent is away from 1."""
        own = self.exponent
        if own is None:
            return False
        return (own.lo is not None and own.lo > _POOR_EXPONENT) or (own.hi is not None and own.hi < 1 / _POOR_EXPONENT)

    @property
    def critical_batch(self) -> float | None:
        """E_min / S_min where both ends are known."""
        return math.exp(self.knee.place) if self.critical.bounded else None

    def reason(self) -> str:
        """Return the sentence behind the status."""
        data = self.data
        batch = data.batch
        where = (
            f"{data.side.size} runs at {data.n_cells} batch sizes from {batch.min():g} to {batch.max():g} {self.unit}"
        )
        noise = f"with a noise of {100 * self.knee.noise.sd:.2g} % a run"
        ends, percent = self.critical, f"{100 * self.critical.confidence:g} %"
        match self.status:
            case FitStatus.CENSORED_HIGH:
                bound = f"the critical batch size is above {ends.lo:.4g} {self.unit} ({percent})"
                return f"the steps of {where} fall as 1 / batch {noise}: {bound}"
            case FitStatus.CENSORED_LOW:
                bound = f"the critical batch size is below {ends.hi:.4g} {self.unit} ({percent})"
                return f"the steps of {where} hardly fall {noise}: {bound}"
            case FitStatus.NOT_IDENTIFIABLE:
                return f"the steps of {where} bound the critical batch size on neither side {noise}"
            case FitStatus.POOR_FIT:
                assert self.exponent is not None
                own = Interval(self.exponent.lo, self.exponent.hi, ends.confidence)
                power = f"1 / batch^{self.exponent.value:.3g}"
                return f"the steps of {where} fall as {power} ({own.text()}), not as 1 / batch"
        found = f"the critical batch size is {self.critical_batch:.4g} {self.unit} ({ends.text(4)})"
        return f"{where} {noise}: {found}"

    def law_fit(self, common: dict[str, Any], reference_batch: float) -> LawFit:
        """Return the result; `common` are the fields that every result for these data has."""
        data, knee = self.data, self.knee
        confidence = self.critical.confidence
        tail = 50 * (1 - confidence)
        ends = np.percentile(self.draws, [tail, 100 - tail], axis=0)
        known = {"S_min": self.critical.hi is not None, "E_min": self.critical.lo is not None}
        values = {"S_min": math.exp(knee.level), "E_min": math.exp(knee.level + knee.place)}
        estimates = []
        for i, own in enumerate(STEPS_HYPERBOLA.parameters):
            # A draw of zero is a law without this term.
            lo = float(ends[0, i]) if ends[0, i] > 0 else None
            estimates.append(
                Estimate(
                    name=own.name,
                    value=values[own.name] if known[own.name] else None,
                    interval=Interval(lo, float(ends[1, i]), confidence),
                    unit="steps" if own.name == "S_min" else self.unit,
                    meaning=own.meaning,
                )
            )
        fitted = knee.level + bend(data.log_batch, np.array([knee.place]))[0]
        runner_up, difference, own_aicc = self._compare(fitted)
        return LawFit(
            status=self.status,
            reason=self.reason(),
            estimates=tuple(estimates),
            derived=self._derived(reference_batch),
            residual_sd=knee.noise.sd,
            fitted=tuple(np.exp(fitted).tolist()),
            aicc=own_aicc,
            runner_up=runner_up,
            aicc_difference=difference,
            group_error=self._group_error(),
            holdout=self._holdout(),
            draws=tuple(tuple(row) for row in self.draws[:_KEPT_DRAWS].tolist()),
            notes=self._notes(),
            **common,
        )

    def _derived(self, reference_batch: float) -> tuple[Estimate, ...]:
        value, ends = self.critical_batch, self.critical
        found = [
            Estimate(
                name="critical_batch",
                value=value,
                interval=ends,
                unit=self.unit,
                meaning="E_min / S_min: steps and data are twice their least",
            ),
            Estimate(
                name="critical_batch_20",
                value=None if value is None else 0.2 * value + 1.2 * reference_batch,
                interval=scaled(ends, 0.2, 1.2 * reference_batch),
                unit=self.unit,
                meaning=f"steps are 20 % above a fall as 1 / batch from {reference_batch:g}",
            ),
        ]
        if self.exponent is not None:
            own = self.exponent
            found.append(
                Estimate(
                    name="gamma",
                    value=own.value,
                    interval=Interval(own.lo, own.hi, ends.confidence),
                    meaning="exponent of the batch size; 1 for the hyperbola",
                )
            )
        return tuple(found)

    def trade_offs(self) -> tuple[TradeOff, ...]:
        """Return what each measured batch size costs above the least."""
        confidence = self.critical.confidence
        tail = 50 * (1 - confidence)
        critical = self.critical_batch
        rows = []
        for batch in np.unique(self.data.batch).tolist():
            lo, hi = np.percentile(self.draws[:, 0] + self.draws[:, 1] / batch, [tail, 100 - tail])
            steps = math.exp(self.knee.level) * (1 + math.exp(self.knee.place) / batch)
            rows.append(
                TradeOff(
                    batch_size=batch,
                    steps=Estimate(
                        name="steps", value=steps, interval=Interval(float(lo), float(hi), confidence), unit="steps"
                    ),
                    extra_steps=Estimate(
                        name="extra_steps",
                        value=None if critical is None else critical / batch,
                        interval=scaled(self.critical, 1 / batch),
                    ),
                    extra_examples=Estimate(
                        name="extra_examples",
                        value=None if critical is None else batch / critical,
                        interval=inverted(self.critical, batch),
                    ),
                )
            )
        return tuple(rows)

    def _compare(self, fitted: FloatArray) -> tuple[str | None, float | None, float | None]:
        """Return the free law, its AICc minus that of the hyperbola, and the latter."""
        data = self.data
        if self.exponent is None or not data.reached.all():
            return None, None, None
        own = aicc(_cell_residuals(data, fitted), STEPS_HYPERBOLA.n_parameters)
        shape = bend(data.log_batch, np.array([self.exponent.place]), self.exponent.value)[0]
        free = shape + float(np.mean(data.log_steps - shape))
        other = aicc(_cell_residuals(data, free), FREE_STEPS_HYPERBOLA.n_parameters)
        if own is None or other is None:
            return None, None, own
        return FREE_STEPS_HYPERBOLA.name, other - own, own

    def _missed(self, cell: int) -> FloatArray | None:
        """Return ln(observed) minus ln(predicted) of the reached runs at a batch size, from a fit to the others."""
        data = self.data
        own = (data.cell == cell) & data.reached
        if not own.any():
            return None
        place, level, _ = best_curve(data.only(data.cell != cell), self.knee.noise.sd, _LEFT_OUT_REFINEMENTS)
        missed: FloatArray = data.log_steps[own] - level - bend(data.log_batch[own], np.array([place]))[0]
        return missed

    def _group_error(self) -> float | None:
        if self.data.n_reached_cells < _FEWEST_TO_LEAVE_OUT:
            return None
        errors = [missed for cell in range(self.data.n_cells) if (missed := self._missed(cell)) is not None]
        return float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))

    def _holdout(self) -> Holdout | None:
        missed = None if self.data.n_reached_cells < _FEWEST_TO_LEAVE_OUT else self._missed(self.data.n_cells - 1)
        if missed is None:
            return None
        return Holdout(
            what="the largest batch size",
            n=missed.size,
            rms_error=float(np.sqrt(np.mean(missed**2))),
            mean_error=float(np.mean(missed)),
            inside=None,
        )

    def _notes(self) -> tuple[str, ...]:
        data, notes = self.data, []
        batch = data.batch
        above, below = int(np.sum(data.side > 0)), int(np.sum(data.side < 0))
        if above:
            notes.append(f"{above} of {data.side.size} runs stopped short of the target and enter as lower bounds")
        if below:
            notes.append(f"{below} of {data.side.size} runs began below the target and enter as upper bounds")
        critical = self.critical_batch
        if critical is not None and not batch.min() <= critical <= batch.max():
            end = "largest" if critical > batch.max() else "smallest"
            size = batch.max() if critical > batch.max() else batch.min()
            notes.append(f"the critical batch size lies beyond the {end} batch size, {size:g} {self.unit}")
        if self.knee.noise.contradicted:
            notes.append("the residuals contradict the stated noise; the intervals use that of the residuals")
        own = self.exponent
        if own is not None and own.p_value < _UNLIKELY and abs(math.log(own.value)) > _SAME_EXPONENT:
            notes.append(
                f"an exponent of {own.value:.3g} on the batch size fits better than 1 (p = {own.p_value:.2g}); "
                "the critical batch size depends on it"
            )
        return tuple(notes)


def _cell_residuals(data: StepsData, fitted: FloatArray) -> FloatArray:
    """Return the mean residual of each batch size times the root of its runs."""
    count = np.bincount(data.cell)
    residuals: FloatArray = np.bincount(data.cell, data.log_steps - fitted) / np.sqrt(count)
    return residuals


def _draw(data: StepsData, knee: Knee, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return draws of S_min and E_min, of which one is 0 where the data do not bound the knee, shape (resamples, 2).

    The signed root of the likelihood ratio and the level given the knee are independent normals in units of the noise,
    whose variance is drawn from its scaled inverse chi-squared distribution.
    """
    noise = knee.noise
    wider = np.ones(resamples)
    if not math.isinf(noise.df):
        wider = np.sqrt(noise.df / rng.chisquare(noise.df, resamples))
    place, level = knee.at(wider * rng.standard_normal(resamples))
    level = level + wider * rng.standard_normal(resamples) * math.sqrt(noise.variance / int(data.reached.sum()))
    level = level + _shared_by_seeds(data, knee, resamples, rng)
    # Beyond the grid the curve is straight in logarithms: one term is left.
    finite = np.clip(place, knee.grid[0], knee.grid[-1])
    fewest = np.where(np.isposinf(place), 0.0, _exp(level))
    least = np.where(np.isneginf(place), 0.0, _exp(level + finite))
    return np.column_stack([fewest, least])


def _exp(exponent: FloatArray) -> FloatArray:
    """Return the exponential, held within the range of floats: with one degree of freedom draws go anywhere."""
    value: FloatArray = np.exp(np.clip(exponent, -_MOST, _MOST))
    return value


def _shared_by_seeds(data: StepsData, knee: Knee, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return draws of the error that the level has because seeds share a part of their noise."""
    if data.seed is None or not data.reached.all():
        return np.zeros(resamples)
    residual = data.log_steps - knee.level - bend(data.log_batch, np.array([knee.place]))[0]
    labels, place = np.unique(data.seed, return_inverse=True)
    if labels.size < 2:
        return np.zeros(resamples)
    means = np.bincount(place, residual) / np.bincount(place)
    extra = float(means.var(ddof=1)) / labels.size - knee.noise.variance / data.side.size
    return math.sqrt(max(extra, 0.0)) * rng.standard_t(labels.size - 1, resamples)
