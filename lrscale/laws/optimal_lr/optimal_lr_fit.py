"""The result of fitting the best LR against the batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, final

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, Interval, finite_or_none
from lrscale.laws.optimal_lr.law_mixture import Draws, PredictsBestLR

Verdict = Literal["consistent", "ruled out", "cannot tell"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LawRow:
    """One law against the data."""

    law: str
    """Name in the registry."""
    parameters: tuple[tuple[str, float, Interval], ...]
    """(name, estimate, interval) in the law's order. An end that the data leave open is None."""
    aicc: float | None
    """Akaike's criterion with the small-sample correction; None when the data carry too few slices for the law."""
    weight: float
    """Share in predictions; zero for rules without a free slope, which would assume what is to be predicted."""
    loo_error: float | None
    """Leave-one-out root mean square error in ln(LR)."""
    p_value: float | None
    """Likelihood-ratio test against the best law with more parameters; None when there is none."""
    verdict: Verdict
    """Whether the data rule the law out."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["parameters"] = [[name, value, interval.to_dict()] for name, value, interval in self.parameters]
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LawRow:
        """Rebuild the row that `to_dict` wrote."""
        values = dict(data)
        values["parameters"] = tuple(
            (name, value, Interval.from_dict(interval)) for name, value, interval in data["parameters"]
        )
        return cls(**values)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRange:
    """Where a rule of thumb agrees with the data: its slope lies within the interval of the local slope."""

    rule: str
    """Name of the rule's law."""
    slope: float
    """d log LR / d log B of the rule."""
    lo: float | None
    """Smallest batch size of the longest such stretch of the measured range; None when there is none."""
    hi: float | None
    """Its largest batch size."""
    whole: bool
    """Whether the stretch is the whole measured range."""

    def text(self) -> str:
        """Return the range in words.

        Examples
        --------
        >>> RuleRange(rule="linear", slope=1.0, lo=16.0, hi=256.0, whole=False).text()
        'linear: not excluded from batch 16 to 256, excluded elsewhere'
        """
        name = self.rule.replace("_", " ")
        if self.lo is None or self.hi is None:
            return f"{name}: excluded everywhere"
        elsewhere = "" if self.whole else ", excluded elsewhere"
        return f"{name}: not excluded from batch {self.lo:.3g} to {self.hi:.3g}{elsewhere}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimalLRFit(PredictsBestLR):
    """The best LR as a function of the batch size: chosen law, rivals, predictions. `fit_optimal_lr` makes it."""

    status: FitStatus
    """How the fit ended."""
    reason: str
    """One sentence with the numbers behind the status."""
    law: str | None
    """Chosen law, or None unless the status is ok."""
    runner_up: str | None
    """Second law by the same criterion, or None."""
    aicc_difference: float | None
    """AICc of the runner-up minus that of the chosen law; below 2 the two are as good as each other."""
    table: tuple[LawRow, ...]
    """Every law that could be fitted."""
    knee: float | None
    """Batch size at which the saturating law bends; None when the data lie on one side of it."""
    knee_interval: Interval | None
    """Its interval; one-sided when the data lie on one side."""
    lack_of_fit_sd: float | None
    """Standard deviation in ln(LR) added to every slice: the scatter about the laws that the slices do not explain."""
    batch_sizes: tuple[float, ...]
    """Batch size of each slice, as given."""
    best_lrs: tuple[float | None, ...]
    """Best LR of each slice; for a censored one the bound that was used; None when it was not used."""
    slice_status: tuple[str, ...]
    """Status of each slice."""
    fitted: tuple[float | None, ...]
    """LR of the mixture at each batch size."""
    draws: Draws
    """(law, draws of its parameters): the mixture behind predictions."""
    confidence: float
    """Confidence of every interval."""
    rules: tuple[RuleRange, ...] = ()
    """For each rule of thumb the measured batch sizes at which it is not excluded."""

    @property
    def ok(self) -> bool:
        """Whether a law was chosen."""
        return self.status is FitStatus.OK

    def row(self, law: str) -> LawRow:
        """Return the row of one law; raise LrscaleError when it was not fitted."""
        for row in self.table:
            if row.law == law:
                return row
        raise LrscaleError(f"law {law} was not fitted", hint=f"fitted: {', '.join(row.law for row in self.table)}")

    def inside(self, batch: float) -> bool:
        """Return whether a batch size lies within the measured range."""
        used = [size for size, lr in zip(self.batch_sizes, self.best_lrs, strict=True) if lr is not None]
        return bool(used) and min(used) <= batch <= max(used)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        plain: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["status"] = self.status.value
        plain["table"] = [row.to_dict() for row in self.table]
        plain["knee"] = finite_or_none(self.knee)
        plain["knee_interval"] = None if self.knee_interval is None else self.knee_interval.to_dict()
        for name in ("batch_sizes", "best_lrs", "slice_status", "fitted"):
            plain[name] = list(plain[name])
        plain["rules"] = [{one.name: getattr(row, one.name) for one in fields(row)} for row in self.rules]
        plain["draws"] = [[law, [list(row) for row in rows]] for law, rows in self.draws]
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OptimalLRFit:
        """Rebuild the fit that `to_dict` wrote."""
        # Fits written before rules had a range lack that field.
        values = {field.name: data[field.name] for field in fields(cls) if field.name != "rules"}
        values["rules"] = tuple(RuleRange(**row) for row in data.get("rules", ()))
        values["status"] = FitStatus(data["status"])
        values["table"] = tuple(LawRow.from_dict(row) for row in data["table"])
        if data["knee_interval"] is not None:
            values["knee_interval"] = Interval.from_dict(data["knee_interval"])
        for name in ("batch_sizes", "best_lrs", "slice_status", "fitted"):
            values[name] = tuple(data[name])
        values["draws"] = tuple((law, tuple(tuple(row) for row in rows)) for law, rows in data["draws"])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text: the chosen law, its parameters, the table of laws."""
        lines = [f"best LR against batch size: {self.status.value}", f"  {self.reason}"]
        for row in self.table:
            mark = "*" if row.law == self.law else " "
            aicc = "-" if row.aicc is None else f"{row.aicc:.1f}"
            loo = "-" if row.loo_error is None else f"{row.loo_error:.2f}"
            # A rule without a free slope may be named, and is never predicted with.
            weight = f"weight {row.weight:.2f}" if row.weight else " " * 11
            lines.append(f" {mark}{row.law:<16} AICc {aicc:>7}  LOO {loo:>5}  {weight}  {row.verdict}")
            for name, value, interval in row.parameters:
                lines.append(f"      {name:<10} {value:.4g} ({interval.text()})")
        if self.knee_interval is not None:
            lines.append(f"  knee of the saturating law: {self.knee_interval.text()}")
        lines += [f"  {row.text()}" for row in self.rules]
        return "\n".join(lines)
