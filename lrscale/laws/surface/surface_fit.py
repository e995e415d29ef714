"""The result of fitting one loss surface over the learning rate and the batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, Interval, finite_or_none
from lrscale.laws.optimal_lr.law_mixture import Draws, PredictsBestLR


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceLaw:
    """One law of the best LR in a surface."""

    law: str
    """Name in the registry."""
    weight: float
    """Its share in predictions."""
    log_evidence: float
    """Log of its marginal likelihood minus that of the best law; twice the difference reads like one of AIC."""
    parameters: tuple[tuple[str, float, Interval], ...]
    """(name, posterior median, interval) in the law's order; an end that the data leave open is None."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "law": self.law,
            "weight": self.weight,
            "log_evidence": self.log_evidence,
            "parameters": [[name, value, interval.to_dict()] for name, value, interval in self.parameters],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SurfaceLaw:
        """Rebuild the row that `to_dict` wrote."""
        rows = tuple((name, value, Interval.from_dict(interval)) for name, value, interval in data["parameters"])
        return cls(**{**data, "parameters": rows})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LRSurfaceFit(PredictsBestLR):
    """The best LR at each batch size from all runs together. `fit_lr_surface` makes it.

    Fields that the status leaves undetermined are None or empty.
    """

    status: FitStatus
    """How the fit ended."""
    reason: str
    """One sentence with the numbers behind the status."""
    law: str | None
    """Law of the best LR with the highest marginal likelihood."""
    runner_up: str | None
    """The second, or None."""
    table: tuple[SurfaceLaw, ...]
    """Every law that the runs allow, best first."""
    batch_sizes: tuple[float, ...]
    """Distinct batch sizes with a finished run, ascending."""
    best_lrs: tuple[float | None, ...]
    """Best LR at each of them; only when the status is ok."""
    intervals: tuple[Interval | None, ...]
    """Its interval; one-sided when censored."""
    min_losses: tuple[float | None, ...]
    """Fitted loss at the best LR of each batch size, averaged over its seeds."""
    exponents: tuple[float, float] | None
    """(p, q) of the basin that all batch sizes share."""
    curvature: float | None
    """Second derivative of the loss with respect to ln(LR) at the minimum, shared by all batch sizes."""
    curvature_interval: Interval | None
    """Its interval."""
    shared_curvature_p: float | None
    """p-value of one curvature for all batch sizes against one for each; None when too few runs could tell."""
    noise_sd: float | None
    """Standard deviation of the loss of a run at fixed LR, batch size and seed."""
    noise_df: float | None
    """Degrees of freedom behind it."""
    diverged_above: tuple[float | None, ...]
    """At each batch size the LR from which upwards at least half of the runs diverged."""
    n_runs: int
    """Number of runs, diverged ones included."""
    n_diverged: int
    n_seeds: int
    """Number of distinct seed labels; 0 when none were given."""
    draws: Draws
    """(law, draws of its parameters): the mixture behind predictions."""
    confidence: float
    """Confidence of every interval."""
    outliers: tuple[int, ...] = ()
    """Rows whose residual was so large that their weight was reduced."""

    @property
    def ok(self) -> bool:
        """Whether the best LRs are known."""
        return self.status is FitStatus.OK

    def row(self, law: str) -> SurfaceLaw:
        """Return the row of one law; raise LrscaleError when it was not fitted."""
        for row in self.table:
            if row.law == law:
                return row
        raise LrscaleError(f"law {law} was not fitted", hint=f"fitted: {', '.join(row.law for row in self.table)}")

    def inside(self, batch: float) -> bool:
        """Return whether a batch size lies within the measured range."""
        return bool(self.batch_sizes) and self.batch_sizes[0] <= batch <= self.batch_sizes[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        plain: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["status"] = self.status.value
        plain["table"] = [row.to_dict() for row in self.table]
        plain["intervals"] = [None if one is None else one.to_dict() for one in self.intervals]
        plain["curvature_interval"] = None if self.curvature_interval is None else self.curvature_interval.to_dict()
        plain["draws"] = [[law, [list(row) for row in rows]] for law, rows in self.draws]
        plain["exponents"] = None if self.exponents is None else list(self.exponents)
        for name in (*_LISTS, "outliers"):
            plain[name] = list(plain[name])
        for name in ("curvature", "shared_curvature_p", "noise_sd", "noise_df"):
            plain[name] = finite_or_none(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LRSurfaceFit:
        """Rebuild the fit that `to_dict` wrote."""
        # Fits written before outliers lost weight lack that field.
        values = {field.name: data[field.name] for field in fields(cls) if field.name != "outliers"}
        values["outliers"] = tuple(data.get("outliers", ()))
        values["status"] = FitStatus(data["status"])
        values["table"] = tuple(SurfaceLaw.from_dict(row) for row in data["table"])
        values["intervals"] = tuple(None if one is None else Interval.from_dict(one) for one in data["intervals"])
        if data["curvature_interval"] is not None:
            values["curvature_interval"] = Interval.from_dict(data["curvature_interval"])
        values["draws"] = tuple((law, tuple(tuple(row) for row in rows)) for law, rows in data["draws"])
        values["exponents"] = None if data["exponents"] is None else tuple(data["exponents"])
        for name in _LISTS:
            values[name] = tuple(data[name])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text: the optimum at each batch size, the basin, the table of laws."""
        lines = [
            f"loss surface over LR and batch size: {self.status.value}",
            f"  {self.reason}",
            f"  runs              {self.n_runs} ({self.n_diverged} diverged), {len(self.batch_sizes)} batch sizes, "
            f"{self.n_seeds or 'unlabelled'} seeds",
        ]
        for batch, lr, interval, loss in zip(
            self.batch_sizes, self.best_lrs, self.intervals, self.min_losses, strict=True
        ):
            best = "not determined" if lr is None else f"{lr:.4g}"
            bounds = "" if interval is None else f" ({interval.text()})"
            least = "" if loss is None else f", loss {loss:.5g}"
            lines.append(f"  batch {batch:<11g} best LR {best}{bounds}{least}")
        if self.curvature is not None and self.curvature_interval is not None:
            lines.append(f"  curvature         {self.curvature:.3g} per ln(LR)^2 ({self.curvature_interval.text()})")
        if self.shared_curvature_p is not None:
            lines.append(f"  one curvature     p = {self.shared_curvature_p:.2g} against one for each batch size")
        if self.noise_sd is not None and self.noise_df is not None:
            lines.append(f"  noise sd          {self.noise_sd:.3g} ({self.noise_df:.3g} degrees of freedom)")
        if self.outliers:
            lines.append(f"  outliers          rows {', '.join(str(row) for row in self.outliers)}")
        for row in self.table:
            mark = "*" if row.law == self.law else " "
            lines.append(f" {mark}{row.law:<16} log evidence {row.log_evidence:>6.1f}  weight {row.weight:.2f}")
            for name, value, interval in row.parameters:
                lines.append(f"      {name:<10} {value:.4g} ({interval.text()})")
        return "\n".join(lines)


_LISTS = ("batch_sizes", "best_lrs", "min_losses", "diverged_above")
