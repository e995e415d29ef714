"""What trunks with cooldowns say: the best LR and the loss against the horizon, and what sharing a trunk changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lrscale.laws import LRSliceFit
from lrscale.laws.horizons import HORIZON, HeldOut, HorizonFit
from lrscale.laws.minima import minima_difference
from lrscale.laws.recovered import recovered_ratio
from lrscale.laws.scale import OptimumFit
from lrscale.store import Trial
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.horizons.curves import CurveCheck
from lrscale.study.horizons.trunks import Trunks
from lrscale.study.lr_answer import bounds
from lrscale.study.words import interval_text, number

CURVE_POINTS = 25


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRuns:
    """Runs of their own at one horizon, beside the trunk's cooldowns there."""

    horizon: int
    """Steps."""
    fit: LRSliceFit
    trials: tuple[Trial, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonsAnswer:
    """Everything that the finding is made of."""

    trunks: Trunks
    cost_ratio: float | None
    """Examples of the trunks and cooldowns over those of runs of their own at the same places; None without any."""
    slices: Mapping[int, LRSliceFit]
    """By horizon in steps, those that have a loss."""
    laws: HorizonFit
    own: OwnRuns | None
    """None where they were not asked for, or are not there."""
    curves: CurveCheck | None = None
    """What a law of the loss against the step, fitted to the trunk and shorter horizons, says of the longest."""
    trials: tuple[Trial, ...]

    @property
    def lr_ratio(self) -> Quantity | None:
        """Best LR of runs of their own over that of the trunk, at their horizon."""
        shared = self._shared
        own = None if self.own is None else self.own.fit
        if own is None or shared is None or shared.best_lr is None or own.best_lr is None:
            return None
        if shared.interval is None or own.interval is None:
            return None
        # Seeds and examples are common to both, so that the interval of independent errors is rather too wide.
        value, interval = recovered_ratio(own.best_lr, own.interval, shared.best_lr, shared.interval)
        return Quantity(value=value, lo=interval.lo, hi=interval.hi)

    @property
    def loss_gap(self) -> Quantity | None:
        """Fitted lowest loss of runs of their own minus that of the trunk, paired by seed."""
        shared = self._shared
        if self.own is None or shared is None or not (shared.ok and self.own.fit.ok):
            return None
        gap = minima_difference(self.own.fit, shared)
        lo, hi = bounds(gap.interval)
        return None if gap.value is None else Quantity(value=gap.value, lo=lo, hi=hi)

    @property
    def agrees(self) -> bool | None:
        """Whether the two best LRs may be the same; None where one of them is not there."""
        ratio = self.lr_ratio
        return None if ratio is None or ratio.lo is None or ratio.hi is None else ratio.lo <= 1 <= ratio.hi

    @property
    def _shared(self) -> LRSliceFit | None:
        return None if self.own is None else self.slices.get(self.own.horizon)

    def finding(self, key: str, title: str) -> Finding:
        """Return the finding of an experiment."""
        rows = self._rows()
        known = [row for row in rows if row["best_lr"] is not None]
        return Finding(
            key=key,
            title=title,
            status="ok" if known else "cannot_tell",
            sentence=self._sentence(rows, known),
            numbers=self._numbers(),
            tables={"horizons": tuple(rows), "held_out": tuple(self._held_out_rows())},
            checks=tuple(self._checks(rows)),
            data=self._data(rows),
            trial_ids=tuple(
                dict.fromkeys(
                    trial.trial_id for trial in (*self.trials, *(() if self.own is None else self.own.trials))
                )
            ),
        )

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for horizon in self.trunks.horizons:
            fit = self.slices.get(horizon)
            rows.append(self._row("trunk", horizon, fit))
        if self.own is not None:
            rows.append(self._row("own runs", self.own.horizon, self.own.fit))
        return rows

    def _row(self, source: str, horizon: int, fit: LRSliceFit | None) -> dict[str, Any]:
        lo, hi = bounds(None if fit is None else fit.interval)
        loss_lo, loss_hi = bounds(None if fit is None else fit.min_loss_interval)
        return {
            "source": source,
            "examples": horizon * self.trunks.batch_size,
            "steps": horizon,
            "best_lr": None if fit is None else fit.best_lr,
            "lr_lo": lo,
            "lr_hi": hi,
            "loss": None if fit is None else fit.min_loss,
            "loss_lo": loss_lo,
            "loss_hi": loss_hi,
            "runs": 0 if fit is None else fit.n_runs,
            "reason": "no run has a loss" if fit is None else fit.reason,
        }

    def _held_out_rows(self) -> list[dict[str, Any]]:
        return [{"what": what, **one.to_dict()} for what, one in self._predicted() if one is not None]

    def _predicted(self) -> list[tuple[str, HeldOut | None]]:
        """Return what laws that have not seen the longest horizon say of it."""
        found: list[tuple[str, HeldOut | None]] = [
            ("best LR", self.laws.lr_held_out),
            ("loss", self.laws.loss_held_out),
        ]
        if self.curves is not None:
            found.append((f"loss along training ({self.curves.law.replace('_', '-')})", self.curves.held_out))
        return found

    def _numbers(self) -> dict[str, Quantity]:
        found = {} if self.cost_ratio is None else {"cost_ratio": Quantity(value=self.cost_ratio)}
        slope = _slope(self.laws.lr)
        if slope is not None:
            found["lr_exponent"] = slope
        if self.lr_ratio is not None:
            found["own_lr_ratio"] = self.lr_ratio
        if self.loss_gap is not None:
            found["own_loss_gap"] = self.loss_gap
        along = None if self.curves is None else self.curves.held_out
        misses = {"lr_miss": self.laws.lr_held_out, "loss_miss": self.laws.loss_held_out, "curve_miss": along}
        for name, one in misses.items():
            if one is not None:
                found[name] = Quantity(value=one.miss)
        return found

    def _sentence(self, rows: list[dict[str, Any]], known: list[dict[str, Any]]) -> str:
        if not known:
            return "No horizon has its best LR inside the learning rates tried, so that nothing can be said of it."
        scope = f"batch {self.trunks.batch_size}, {self.trunks.settings.seeds} seeds"
        slope = _slope(self.laws.lr)
        if slope is not None:
            sentence = (
                f"From {rows[0]['examples']:,} to {self.trunks.horizons[-1] * self.trunks.batch_size:,} examples the "
                f"best peak LR goes with the horizon to the power {number(slope.value)} "
                f"({interval_text(slope.lo, slope.hi)}; {scope})"
            )
        else:
            places = ", ".join(f"{number(row['best_lr'])} at {row['examples']:,} examples" for row in known)
            sentence = f"The best peak LR is {places} ({scope}); its law cannot be told"
        for what, one in (("best LR", self.laws.lr_held_out), ("loss", self.laws.loss_held_out)):
            if one is not None:
                sentence += f"; without the longest horizon the law misses its {what} by {_percent(one.miss)}"
        return f"{sentence}. {self._bias()}"

    def _bias(self) -> str:
        ratio = self.trunks.cost_ratio if self.cost_ratio is None else self.cost_ratio
        share = f"Trunks and cooldowns take {ratio:.2f} of the examples of runs of their own at the same places"
        if self.own is None:
            return f"{share}; what sharing it changes was not measured (experiments.horizons.own_runs)."
        at = f"at {self.own.horizon * self.trunks.batch_size:,} examples"
        moved = self.lr_ratio
        if moved is None:
            which = self.own.fit if self.own.fit.best_lr is None or self._shared is None else self._shared
            return f"{share}; {at} the best LR of runs of their own cannot be compared with the trunk's: {which.reason}"
        told, gap = "", self.loss_gap
        if gap is not None and gap.value is not None:
            side = "above" if gap.value > 0 else "below"
            told = f", and their lowest loss is {number(abs(gap.value))} {side} its own (difference "
            told += f"{interval_text(gap.lo, gap.hi)})"
        return (
            f"{share}; {at} the best LR of runs of their own is {number(moved.value)} times the trunk's "
            f"({interval_text(moved.lo, moved.hi)}){told}."
        )

    def _checks(self, rows: list[dict[str, Any]]) -> list[Check]:
        checks = [
            Check(
                name="Horizons from one trunk",
                status="INFO",
                sentence=(
                    f"All horizons of a trunk see the same examples first and share its warm-up of {self.trunks.warmup}"
                    f" steps, {100 * self.trunks.warmup / self.trunks.horizons[-1]:.1f} % of the longest, so that "
                    "their losses move together from seed to seed."
                ),
            )
        ]
        if self.agrees is False:
            assert self.own is not None
            checks.append(
                Check(
                    name="Trunk and own runs agree",
                    status="WARNING",
                    sentence=(
                        f"At {self.own.horizon * self.trunks.batch_size:,} examples the best LR of runs of their own is"
                        " another than that of the trunk."
                    ),
                    remedy="take the law's exponent and not its level, or calibrate at the job's own horizon",
                )
            )
        checks += [
            Check(
                name=f"Best LR at {row['examples']:,} examples",
                status="WARNING",
                sentence=(
                    f"The best LR of {row['source']} at {row['examples']:,} examples is not inside: {row['reason']}"
                ),
                remedy="raise experiments.horizons.max_learning_rates or seeds",
            )
            for row in rows
            if row["best_lr"] is None
        ]
        misses = [(what, one) for what, one in self._predicted() if one is not None and not one.inside]
        if self.curves is not None and self.curves.held_out is None:
            checks.append(
                Check(
                    name="Law of the loss along training",
                    status="INFO",
                    sentence=(
                        f"A schedule law cannot predict the longest horizon from the shorter ones: {self.curves.reason}"
                    ),
                )
            )
        checks += [
            Check(
                name=f"Law of the {what} at the longest horizon",
                status="WARNING",
                sentence=(
                    f"Fitted to the shorter horizons, it says {number(one.predicted, 3)} ({_range(one)}) at the "
                    f"longest, where {number(one.measured, 3)} was measured: it does not carry that far."
                ),
                remedy="add a longer horizon before it is carried to the job's",
            )
            for what, one in misses
        ]
        return checks

    def _data(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        horizons = [horizon * self.trunks.batch_size for horizon in self.trunks.horizons]
        return {
            "batch_size": self.trunks.batch_size,
            "cost_ratio": self.cost_ratio,
            "planned_cost_ratio": self.trunks.cost_ratio,
            "warmup_steps": self.trunks.warmup,
            "cooldown": self.trunks.settings.cooldown,
            "cooldown_fraction": self.trunks.settings.cooldown_fraction,
            "monitor": next((trial.record.monitor for trial in self.trials if trial.record.monitor), None),
            "rows": rows,
            "lr_curve": _curve(self.laws.lr, HORIZON, horizons),
            "loss_curve": _curve(self.laws.loss, "size", horizons),
            "agrees": self.agrees,
        }


def _slope(fit: OptimumFit | None) -> Quantity | None:
    if fit is None or not fit.ok:
        return None
    found = next((one for one in fit.estimates if one.name == f"e_{HORIZON}"), None)
    if found is None or found.value is None:
        return None
    lo, hi = bounds(found.interval)
    return Quantity(value=found.value, lo=lo, hi=hi)


def _curve(fit: Any, name: str, horizons: list[int]) -> list[list[float]]:
    if fit is None or not fit.ok or not fit.draws:
        return []
    first, last = math.log(horizons[0]), math.log(horizons[-1])
    places = [math.exp(first + (last - first) * point / (CURVE_POINTS - 1)) for point in range(CURVE_POINTS)]
    columns = fit.predict({name: places})
    return [[float(cell) for cell in row] for row in zip(places, *columns, strict=True)]


def _percent(miss: float) -> str:
    return f"{'+' if miss > 0 else '-'}{number(100 * abs(miss))} %"


def _range(one: HeldOut) -> str:
    return interval_text(one.lo, one.hi)
