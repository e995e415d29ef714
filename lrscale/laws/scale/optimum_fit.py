"""The result of fitting an optimal LR or batch size against scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray
from lrscale.laws.choice import Holdout
from lrscale.laws.scale.optimum_law import AbstractOptimumLaw, PowerOptimum, SaturatingOptimum
from lrscale.laws.separable_fit import Estimate, find_estimate

Quantity = Literal["lr", "batch"]

# A point this near, in ln, to the line or the value that the cells had counts as on it.
_ON_LINE = 0.1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimumFit:
    """The best LR or batch size as a function of scale. `fit_optimum_scaling` makes it."""

    quantity: Quantity
    status: FitStatus
    reason: str
    """One sentence with the numbers behind the status."""
    law: str | None
    """``"power"`` or ``"saturating"``; None unless a law was fitted."""
    formula: str = ""
    estimates: tuple[Estimate, ...] = ()
    """The amplitude ``c`` at the geometric mean of the cells, then exponents by the name of their variable."""
    derived: tuple[Estimate, ...] = ()
    """What follows: the factor at unit variables, exponents along a line."""
    refused: tuple[tuple[str, str], ...] = ()
    """(variable, why its exponent cannot be told)"""
    lines: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    """(variable of the fit, ((variable that follows it, with this power), ...)): predictions hold along them only."""
    variables: tuple[str, ...] = ()
    """Variables of the fit, in the order of the draws."""
    centre: Mapping[str, float] = field(default_factory=dict)
    """Geometric mean of each variable over the cells."""
    horizon: str | None = None
    """The variable that moves the knee of the saturating law."""
    n_cells: int
    n_censored: int
    n_clusters: int
    lack_of_fit_sd: float | None = None
    """Scatter of cells about the law, in ln, beyond their own variance."""
    observed: tuple[float, ...] = ()
    censored: tuple[int, ...] = ()
    inputs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fitted: tuple[float, ...] = ()
    aicc: float | None = None
    runner_up: str | None = None
    aicc_difference: float | None = None
    """AICc of the runner-up minus that of this law."""
    group_error: float | None = None
    """Leave-one-group-out root mean square error, in ln."""
    runner_up_group_error: float | None = None
    holdout: Holdout | None = None
    point: tuple[float, ...] = ()
    """Most likely parameters in the order of the draws, those of refused exponents too: what `predict` uses."""
    draws: tuple[tuple[float, ...], ...] = ()
    """Draws of the parameters; the last column is the scatter of cells."""
    batch_range: tuple[float, float] | None = None
    """Smallest and largest log batch less its mean, for the saturating law."""
    notes: tuple[str, ...] = ()
    confidence: float = 0.95

    @property
    def ok(self) -> bool:
        """Whether at least one exponent is determined."""
        return self.status is FitStatus.OK

    def estimate(self, name: str) -> Estimate:
        """Return a parameter or a derived number; raise LrscaleError with the reason when there is none."""
        for refused, reason in self.refused:
            if name == f"e_{refused}":
                raise LrscaleError(f"no exponent of {refused}: {reason}", hint=f"vary {refused} apart from the others")
        return find_estimate((*self.estimates, *self.derived), name, self.reason)

    def predict(
        self, x: Mapping[str, ArrayLike], *, new_cell: bool = True
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the optimum at new points, with an interval.

        Parameters
        ----------
        x : mapping of str to array-like of shape (m,)
            Every variable that was given to the fit, positive.
        new_cell : bool, optional
            Whether the interval counts the scatter of cells about the law: that of the optimum which a new sweep would
            find if it had no noise. False: of the law only. Defaults to True.

        Returns
        -------
        value, lo, hi : arrays of shape (m,)
            Off the line or the single value that the cells had for a variable nothing is known: NaN, 0 and infinity.

        Raises
        ------
        LrscaleError
            When no law was fitted, or a variable is missing or not positive.
        """
        log = self._log(x)
        place = list(self.variables)
        table = np.column_stack([log[name] - math.log(self.centre[name]) for name in place])
        law = self._law()
        drawn = np.asarray(self.draws)
        curves = law.value(drawn[:, :-1], table)
        if new_cell:
            # Even steps through the normal distribution in one random order: intervals vary smoothly with the point.
            # The seed is none that a fit can have, lest the order be that of the draws of the scatter.
            order = np.random.default_rng([20, 26]).permutation(len(drawn))
            steps = ndtri((order + 0.5) / len(drawn))
            curves = curves + (drawn[:, -1] * steps)[:, None]
        tail = 50 * (1 - self.confidence)
        lo, hi = np.percentile(curves, [tail, 100 - tail], axis=0)
        value = law.value(np.array([self.point]), table)[0]
        known = self._known(log)
        centre = np.exp(np.where(known, value, np.nan))
        low = np.where(known, np.exp(np.minimum(lo, value)), 0.0)
        high = np.where(known, np.exp(np.maximum(hi, value)), np.inf)
        return centre, low, high

    def _log(self, x: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
        if not self.draws:
            raise LrscaleError(f"no law was fitted: {self.reason}", hint="look at the status first")
        if set(x) != set(self.centre):
            raise LrscaleError(
                f"the fit needs {', '.join(self.centre)}, not {', '.join(x) or 'nothing'}", hint="give exactly those"
            )
        values = {name: np.atleast_1d(np.asarray(x[name], dtype=np.float64)) for name in self.centre}
        if len({own.shape for own in values.values()}) != 1 or any(own.ndim != 1 for own in values.values()):
            raise LrscaleError("the variables differ in shape", hint="give one value of each for each point")
        for name, own in values.items():
            if not np.all(np.isfinite(own) & (own > 0)):
                raise LrscaleError(f"{name} must hold positive numbers, not {own}", hint="check the argument")
        return {name: np.log(own) for name, own in values.items()}

    def _known(self, log: Mapping[str, FloatArray]) -> FloatArray:
        away = {name: own - math.log(self.centre[name]) for name, own in log.items()}
        known = np.ones(next(iter(away.values())).size, dtype=bool)
        followers = {name for _, rest in self.lines for name, _ in rest}
        for first, rest in self.lines:
            for name, power in rest:
                known &= np.abs(away[name] - power * away[first]) <= _ON_LINE
        for name, _ in self.refused:
            if name not in self.variables and name not in followers:
                known &= np.abs(away[name]) <= _ON_LINE
        return np.asarray(known)

    def _law(self) -> AbstractOptimumLaw:
        if self.law == PowerOptimum.name:
            return PowerOptimum(self.variables)
        lowest, highest = self.batch_range or (0.0, 0.0)
        return SaturatingOptimum(self.variables, self.horizon, lowest, highest)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        plain: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["status"] = self.status.value
        for name in ("estimates", "derived"):
            plain[name] = [one.to_dict() for one in plain[name]]
        plain["refused"] = [list(row) for row in self.refused]
        plain["lines"] = [[first, [list(pair) for pair in rest]] for first, rest in self.lines]
        plain["holdout"] = None if self.holdout is None else self.holdout.to_dict()
        plain["centre"] = dict(self.centre)
        plain["inputs"] = {name: list(values) for name, values in self.inputs.items()}
        plain["draws"] = [list(row) for row in self.draws]
        plain["batch_range"] = None if self.batch_range is None else list(self.batch_range)
        for name in ("variables", "observed", "censored", "fitted", "notes", "point"):
            plain[name] = list(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OptimumFit:
        """Rebuild the fit that `to_dict` wrote."""
        values = {one.name: data[one.name] for one in fields(cls)}
        values["status"] = FitStatus(data["status"])
        for name in ("estimates", "derived"):
            values[name] = tuple(Estimate.from_dict(one) for one in data[name])
        values["refused"] = tuple((name, reason) for name, reason in data["refused"])
        values["lines"] = tuple((first, tuple((name, power) for name, power in rest)) for first, rest in data["lines"])
        values["holdout"] = None if data["holdout"] is None else Holdout(**data["holdout"])
        values["inputs"] = {name: tuple(row) for name, row in data["inputs"].items()}
        values["draws"] = tuple(tuple(row) for row in data["draws"])
        if data["batch_range"] is not None:
            values["batch_range"] = (data["batch_range"][0], data["batch_range"][1])
        for name in ("variables", "observed", "censored", "fitted", "notes", "point"):
            values[name] = tuple(values[name])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text, one quantity a line."""
        what = "best LR" if self.quantity == "lr" else "best batch size"
        lines = [f"{what} against scale: {self.status.value}", f"  {self.reason}"]
        if self.formula:
            lines.append(f"  {self.formula}")
        lines.append(
            f"  cells             {self.n_cells} in {self.n_clusters} clusters, {self.n_censored} of them censored"
        )
        lines += [f"  {one.name:<17} {one.text()}" for one in (*self.estimates, *self.derived)]
        lines += [f"  {name:<17} refused: {reason}" for name, reason in self.refused]
        if self.lack_of_fit_sd is not None:
            lines.append(f"  lack of fit       {self.lack_of_fit_sd:.3g} (ln)")
        if self.runner_up is not None and self.aicc_difference is not None:
            lines.append(f"  runner-up         {self.runner_up} (AICc {self.aicc_difference:+.1f})")
        if self.group_error is not None:
            lines.append(f"  leave-group-out   {self.group_error:.3g} (ln)")
        if self.holdout is not None:
            lines.append(f"  held out          {self.holdout.text('cells')}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)
