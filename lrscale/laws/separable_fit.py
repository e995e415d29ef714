"""The result of fitting a separable law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, Interval, finite_or_none
from lrscale.laws.choice import Holdout
from lrscale.laws.separable import SEPARABLE_LAWS


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number that a fit found."""

    name: str
    value: float | None
    """None where the data do not determine it; the interval may still bound it."""
    interval: Interval | None
    unit: str = ""
    meaning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "name": self.name,
            "value": finite_or_none(self.value),
            "interval": None if self.interval is None else self.interval.to_dict(),
            "unit": self.unit,
            "meaning": self.meaning,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Rebuild the estimate that `to_dict` wrote."""
        interval = data["interval"]
        return cls(**{**data, "interval": None if interval is None else Interval.from_dict(interval)})

    def text(self, digits: int = 4) -> str:
        """Return the value with its interval, for example ``0.348 (95 % 0.33 to 0.36)``."""
        value = "not determined" if self.value is None else f"{self.value:.{digits}g}"
        interval = "" if self.interval is None else f" ({self.interval.text(digits)})"
        return f"{value}{interval}{f' {self.unit}' if self.unit else ''}"


def find_estimate(estimates: tuple[Estimate, ...], name: str, reason: str) -> Estimate:
    """Return the estimate of that name; raise LrscaleError with the fit's reason and the names there are."""
    for estimate in estimates:
        if estimate.name == name:
            return estimate
    known = ", ".join(one.name for one in estimates)
    raise LrscaleError(f"the fit has no {name}: {reason}", hint=f"it has {known}" if known else None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """A law with its parameters, how sure they are, and how well it predicts points that it has not seen."""

    law: str
    """Name in the registry of separable laws."""
    formula: str
    status: FitStatus
    reason: str
    """One sentence with the numbers behind the status."""
    estimates: tuple[Estimate, ...] = ()
    """The law's parameters, in its order; empty unless it was fitted."""
    derived: tuple[Estimate, ...] = ()
    """What follows from them, for example a critical batch size."""
    n_points: int
    n_clusters: int
    """Runs or cells: what was drawn again for the intervals."""
    residual_kind: str = "log"
    """``"log"``: residuals are differences of logarithms; ``"linear"``: in the unit of the values."""
    residual_sd: float | None = None
    """Root mean square of the residuals, over the degrees of freedom, in their unit."""
    observed: tuple[float, ...] = ()
    fitted: tuple[float | None, ...] = ()
    """Fitted value of each point, in the order of the input."""
    inputs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The variables of each point by name."""
    aicc: float | None = None
    runner_up: str | None = None
    """The next best law for the same data, or None."""
    aicc_difference: float | None = None
    """AICc of the runner-up minus that of this law."""
    group_error: float | None = None
    """Leave-one-group-out root mean square error, in the unit of the residuals."""
    holdout: Holdout | None = None
    """The largest left out."""
    draws: tuple[tuple[float, ...], ...] = ()
    """Draws of the parameters; at most 500."""
    notes: tuple[str, ...] = ()
    """What a reader must know before using the numbers, as sentences."""
    confidence: float = 0.95

    @property
    def ok(self) -> bool:
        """Whether the data determine the law."""
        return self.status is FitStatus.OK

    def estimate(self, name: str) -> Estimate:
        """Return a parameter or a derived number; raise LrscaleError when there is none of that name."""
        return find_estimate((*self.estimates, *self.derived), name, self.reason)

    def predict(self, x: Mapping[str, ArrayLike]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the law's value at new points and the interval of its expectation.

        Parameters
        ----------
        x : mapping of str to array-like of shape (m,)
            The law's variables by name.

        Returns
        -------
        value, lo, hi : arrays of shape (m,)
            The value at the fitted parameters; the interval counts their uncertainty, not the noise of a new run, and
            widens away from the data.

        Raises
        ------
        LrscaleError
            When no law was fitted, or a variable is missing.
        """
        if not self.estimates or not self.draws:
            raise LrscaleError(f"the {self.law} law was not fitted: {self.reason}", hint="look at the status first")
        law = SEPARABLE_LAWS[self.law]
        point = np.array([math.nan if one.value is None else one.value for one in self.estimates])
        curves = law.predict(np.asarray(self.draws), x)
        tail = 50 * (1 - self.confidence)
        lo, middle, hi = np.percentile(curves, [tail, 50, 100 - tail], axis=0)
        value = law.predict(point, x) if np.isfinite(point).all() else middle
        return value, np.minimum(lo, value), np.maximum(hi, value)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        plain: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["status"] = self.status.value
        for name in ("estimates", "derived"):
            plain[name] = [one.to_dict() for one in plain[name]]
        plain["holdout"] = None if self.holdout is None else self.holdout.to_dict()
        plain["inputs"] = {name: list(values) for name, values in self.inputs.items()}
        plain["draws"] = [list(row) for row in self.draws]
        for name in ("observed", "fitted", "notes"):
            plain[name] = list(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LawFit:
        """Rebuild the fit that `to_dict` wrote."""
        values = {one.name: data[one.name] for one in fields(cls)}
        values["status"] = FitStatus(data["status"])
        for name in ("estimates", "derived"):
            values[name] = tuple(Estimate.from_dict(one) for one in data[name])
        values["holdout"] = None if data["holdout"] is None else Holdout(**data["holdout"])
        values["inputs"] = {name: tuple(row) for name, row in data["inputs"].items()}
        values["draws"] = tuple(tuple(row) for row in data["draws"])
        for name in ("observed", "fitted", "notes"):
            values[name] = tuple(values[name])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text, one quantity a line."""
        lines = [
            f"{self.law.replace('_', ' ')}: {self.status.value}",
            f"  {self.reason}",
            f"  {self.formula}",
            f"  points            {self.n_points} in {self.n_clusters} clusters",
        ]
        lines += [f"  {one.name:<17} {one.text()}" for one in (*self.estimates, *self.derived)]
        if self.residual_sd is not None:
            lines.append(f"  residual sd       {self.residual_sd:.3g} ({self.residual_kind})")
        if self.runner_up is not None and self.aicc_difference is not None:
            lines.append(f"  runner-up         {self.runner_up} (AICc {self.aicc_difference:+.1f})")
        if self.group_error is not None:
            lines.append(f"  leave-group-out   {self.group_error:.3g}")
        if self.holdout is not None:
            lines.append(f"  held out          {self.holdout.text()}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)
