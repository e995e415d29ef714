"""The result of fitting the steps to a target against the batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.laws.base import FitStatus, FloatArray, Interval
from lrscale.laws.separable_fit import Estimate, LawFit

BatchUnit = Literal["examples", "sequences", "tokens"]
"""What a batch size counts."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOff:
    """What one measured batch size costs above the least."""

    batch_size: float
    """In the unit of the fit."""
    steps: Estimate
    """Expected steps to the target."""
    extra_steps: Estimate
    """Steps beyond S_min, as a fraction of S_min: B_crit / batch."""
    extra_examples: Estimate
    """Data beyond E_min, as a fraction of E_min: batch / B_crit."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "batch_size": self.batch_size,
            "steps": self.steps.to_dict(),
            "extra_steps": self.extra_steps.to_dict(),
            "extra_examples": self.extra_examples.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TradeOff:
        """Rebuild the trade-off that `to_dict` wrote."""
        own = {name: Estimate.from_dict(data[name]) for name in ("steps", "extra_steps", "extra_examples")}
        return cls(batch_size=data["batch_size"], **own)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepsFit:
    """Steps to a target against the batch size: the hyperbola, its critical batch sizes, and what each batch costs."""

    law: LawFit
    """The hyperbola with S_min and E_min, and the derived `critical_batch`, `critical_batch_20` and `gamma`."""
    batch_unit: BatchUnit
    """Unit of the batch sizes, of E_min and of the critical batch sizes."""
    reference_batch: float | None
    """Batch size from which the 20 % definition counts; None without data."""
    trade_offs: tuple[TradeOff, ...] = ()
    """One for each measured batch size, increasing; empty unless the law was fitted."""
    censored: tuple[int, ...] = ()
    """For each run 0: reached the target; 1: needs more steps than given; -1: fewer."""

    @property
    def status(self) -> FitStatus:
        """How the fit ended."""
        return self.law.status

    @property
    def reason(self) -> str:
        """One sentence with the numbers behind the status."""
        return self.law.reason

    @property
    def ok(self) -> bool:
        """Whether the data determine the critical batch size."""
        return self.law.ok

    def estimate(self, name: str) -> Estimate:
        """Return S_min, E_min, critical_batch, critical_batch_20 or gamma; raise LrscaleError without a fit."""
        return self.law.estimate(name)

    def predict(self, batch_sizes: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the expected steps to the target and their interval.

        Parameters
        ----------
        batch_sizes : array-like of shape (m,)
            Positive, in `batch_unit`.

        Returns
        -------
        steps, lo, hi : arrays of shape (m,)
            The interval is of the expectation; a new run varies about it.

        Raises
        ------
        LrscaleError
            When no law was fitted.
        """
        return self.law.predict({"batch": batch_sizes})

    def draws(self, batch_sizes: ArrayLike) -> FloatArray:
        """Return draws of the expected steps, shape (draws, m); none without a fit."""
        batch = np.atleast_1d(np.asarray(batch_sizes, dtype=np.float64))
        table = np.asarray(self.law.draws, dtype=np.float64).reshape(-1, 2)
        return table[:, :1] + table[:, 1:] / batch

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        return {
            "law": self.law.to_dict(),
            "batch_unit": self.batch_unit,
            "reference_batch": self.reference_batch,
            "trade_offs": [one.to_dict() for one in self.trade_offs],
            "censored": list(self.censored),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StepsFit:
        """Rebuild the fit that `to_dict` wrote."""
        values = {one.name: data[one.name] for one in fields(cls)}
        values["law"] = LawFit.from_dict(data["law"])
        values["trade_offs"] = tuple(TradeOff.from_dict(one) for one in data["trade_offs"])
        values["censored"] = tuple(data["censored"])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text: the law, then a line for each batch size."""
        lines = [self.law.summary()]
        if self.trade_offs:
            lines.append(f"  {'batch':>10} {'steps':>10} {'extra steps':>12} {'extra data':>12}")
        for one in self.trade_offs:
            extra = [_percent(estimate) for estimate in (one.extra_steps, one.extra_examples)]
            steps = "-" if one.steps.value is None else f"{one.steps.value:.4g}"
            lines.append(f"  {one.batch_size:>10g} {steps:>10} {extra[0]:>12} {extra[1]:>12}")
        return "\n".join(lines)


def _percent(estimate: Estimate) -> str:
    if estimate.value is not None:
        return f"{100 * estimate.value:.3g} %"
    ends = estimate.interval
    if ends is None or (ends.lo is None and ends.hi is None):
        return "-"
    return f"> {100 * ends.lo:.3g} %" if ends.lo is not None else f"< {100 * (ends.hi or 0.0):.3g} %"


def scaled(interval: Interval, factor: float, offset: float = 0.0) -> Interval:
    """Return the interval of ``factor * value + offset`` for a positive factor."""
    ends = [None if end is None else factor * end + offset for end in (interval.lo, interval.hi)]
    return Interval(ends[0], ends[1], interval.confidence)


def inverted(interval: Interval, numerator: float) -> Interval:
    """Return the interval of ``numerator / value``."""
    ends = [None if end is None else numerator / end for end in (interval.hi, interval.lo)]
    return Interval(ends[0], ends[1], interval.confidence)
