"""The result of fitting an LR slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, FloatArray, Interval, finite_or_none
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.lr_slice.residual_spread import NoiseSource
from lrscale.laws.runs import SeedLabel


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LRSliceFit:
    """Where the loss of one slice is lowest in the LR, how sure that is, and what a wrong LR costs.

    `fit_lr_slice` makes it. Losses are in the unit of the input; LRs are peak LRs. Fields that the status leaves
    undetermined are None.
    """

    status: FitStatus
    """How the fit ended."""
    reason: str
    """One sentence with the numbers behind the status."""
    best_lr: float | None
    """LR of the lowest loss (posterior median); only when the status is ok."""
    interval: Interval | None
    """Interval of the best LR, computed in log LR. One-sided when censored, with None at the open end."""
    equivalence: tuple[float, float] | None
    """Lowest and highest LR inside the measured range with a fitted loss within `equivalence_margin` of the lowest."""
    equivalence_margin: float | None
    """max(tolerance |minimum|, 2 `shape_se`)."""
    min_loss: float | None
    """Fitted loss at the best LR, averaged over seeds."""
    min_loss_interval: Interval | None
    """Its interval; counts the spread between seeds when two or more seeds were trained at several LRs."""
    curvature: float | None
    """Second derivative of the loss with respect to ln(LR) at the minimum."""
    curvature_interval: Interval | None
    """Its interval."""
    noise_sd: float | None
    """Standard deviation of the loss of a run at fixed LR and seed block."""
    noise_df: float | None
    """Degrees of freedom behind `noise_sd`."""
    exponents: tuple[float, float] | None
    """(p, q) of ``A lr^-p + B lr^q + C`` at the best LR."""
    amplitudes: tuple[float, float, float] | None
    """(A, B, C) of the same."""
    quadratic_lr: float | None
    """Vertex of a parabola in log LR fitted with the same weights: the check. None when it opens downwards."""
    models_disagree: bool
    """Whether that vertex differs from `best_lr` by more than both intervals together."""
    expected_regret: float | None
    """Posterior mean of the loss at `best_lr` minus the lowest loss."""
    diverged_above: float | None
    """LR from which upwards at least half of the runs diverged."""
    diverged_fraction: tuple[tuple[float, float], ...]
    """(LR, fraction of runs that diverged) for each distinct LR."""
    outliers: tuple[int, ...]
    """Rows whose residual was so large that their weight was reduced."""
    n_runs: int
    """Number of runs, diverged ones included."""
    n_seeds: int
    """Number of distinct seed labels; 0 when none were given."""
    lr: tuple[float, ...]
    """Peak LR of each run, as given."""
    loss: tuple[float | None, ...]
    """Loss of each run; None where it diverged."""
    seeds: tuple[SeedLabel, ...]
    """Seed label of each run."""
    fitted: tuple[float | None, ...]
    """Fitted loss of each run, its seed block included; None where it diverged or lies too far above to be fitted."""
    residual: tuple[float | None, ...]
    """Loss minus fitted loss."""
    vertex: float | None
    """Posterior median of ln(best LR), whatever the status: what later stages use for a censored slice."""
    vertex_draws: tuple[float, ...]
    """Draws of ln(best LR), equally weighted, at most 1000."""
    curve_draws: tuple[tuple[float, float, float, float, float], ...]
    """Draws of (ln best LR, p, q, curvature, minimum loss), at most 256."""
    seed_levels: tuple[tuple[SeedLabel, float], ...]
    """(seed, fitted minimum loss of that seed's runs)."""
    shape_se: float | None
    """Standard error of the fitted minimum at fixed seeds, the position and shape of the basin included."""
    confidence: float
    """Confidence of every interval here."""
    basin_se: float | None = None
    """Part of `shape_se` that the position and the shape of the basin bring, without the noise of the runs' level; None
    in fits of earlier versions."""
    residual_sd: tuple[float | None, ...] = ()
    """Standard deviation that the residual of each run should have: noise, growing where `fit_lr_slice` lets it grow,
    and error of the curve's shape, less what the fit takes out. Empty in fits of earlier versions."""
    noise_source: NoiseSource | None = None
    """``replicates`` where `noise_sd` is of runs at equal LRs alone, ``residuals`` where the distances from the curve
    are part of it."""
    misfit: float | None = None
    """Mean square of the LR means about the curve over that of replicates, the F ratio of lack of fit; None where
    `noise_source` is not replicates or a weight was reduced."""
    misfit_df: tuple[float, float] | None = None
    """Degrees of freedom of both."""

    @property
    def ok(self) -> bool:
        """Whether `best_lr` is known."""
        return self.status is FitStatus.OK

    def predict(self, lr: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the expected loss at peak LRs and its interval.

        Parameters
        ----------
        lr : array-like of shape (m,)
            Positive LRs.

        Returns
        -------
        loss, lo, hi : arrays of shape (m,)
            The interval counts noise, the shape of the basin and the seeds, not divergence.

        Raises
        ------
        LrscaleError
            When the slice has no fitted curve.
        """
        x = self._log_lr(lr)
        vertex, p, q, curvature, level = self._draws()
        curves = level + curvature * basin(x - vertex, p, q)
        tail = 50 * (1 - self.confidence)
        lo, middle, hi = np.percentile(curves, [tail, 50, 100 - tail], axis=0)
        if self.best_lr is None or self.min_loss is None or self.exponents is None or self.curvature is None:
            return middle, lo, hi
        centre = self.min_loss + self.curvature * basin(x - math.log(self.best_lr), *self.exponents)
        return centre, np.minimum(lo, centre), np.maximum(hi, centre)

    def regret(self, lr: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the loss at peak LRs minus the lowest loss, and its interval; the level of the loss cancels."""
        x = self._log_lr(lr)
        vertex, p, q, curvature, _ = self._draws()
        curves = curvature * basin(x - vertex, p, q)
        tail = 50 * (1 - self.confidence)
        lo, hi = np.percentile(curves, [tail, 100 - tail], axis=0)
        return np.mean(curves, axis=0), lo, hi

    def _log_lr(self, lr: ArrayLike) -> FloatArray:
        if not self.curve_draws:
            raise LrscaleError(f"this slice has no fitted curve: {self.reason}", hint="look at its status first")
        values = np.atleast_1d(np.asarray(lr, dtype=np.float64))
        if not np.all(np.isfinite(values) & (values > 0)):
            raise LrscaleError(f"learning rates must be positive numbers, not {values}", hint="check the argument")
        log_lr: FloatArray = np.log(values)
        return log_lr

    def _draws(self) -> FloatArray:
        columns: FloatArray = np.asarray(self.curve_draws).T[:, :, None]
        return columns

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping from which `from_dict` rebuilds an equal object."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LRSliceFit:
        """Rebuild the fit that `to_dict` wrote."""
        values = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        for name in _INTERVALS:
            values[name] = None if values[name] is None else Interval.from_dict(values[name])
        for name in _TUPLES:
            if name in values:
                values[name] = _tuples(values[name])
        values["status"] = FitStatus(values["status"])
        return cls(**values)

    def summary(self) -> str:
        """Return the fit as text, one quantity a line."""
        lines = [
            f"LR slice: {self.status.value}",
            f"  {self.reason}",
            f"  runs              {self.n_runs} ({sum(value is None for value in self.loss)} diverged), "
            f"{len(set(self.lr))} LRs, {self.n_seeds or 'unlabelled'} seeds",
        ]
        if self.best_lr is not None:
            lines.append(f"  best LR           {self.best_lr:.4g}")
        if self.interval is not None:
            lines.append(f"  interval          {self.interval.text()}")
        if self.equivalence is not None:
            lines.append(f"  equivalent LRs    {self.equivalence[0]:.3g} to {self.equivalence[1]:.3g}")
        if self.min_loss is not None and self.min_loss_interval is not None:
            lines.append(f"  minimum loss      {self.min_loss:.5g} ({self.min_loss_interval.text(5)})")
        if self.curvature is not None and self.curvature_interval is not None:
            lines.append(f"  curvature         {self.curvature:.3g} per ln(LR)^2 ({self.curvature_interval.text()})")
        if self.exponents is not None and self.amplitudes is not None:
            (p, q), (a, b, c) = self.exponents, self.amplitudes
            lines.append(f"  model             {a:.3g} lr^-{p:g} + {b:.3g} lr^{q:g} + {c:.5g}")
        if self.quadratic_lr is not None:
            verdict = "differs" if self.models_disagree else "agrees"
            lines.append(f"  parabola's vertex {self.quadratic_lr:.4g} ({verdict})")
        if self.noise_sd is not None and self.noise_df is not None:
            lines.append(f"  noise sd          {self.noise_sd:.3g} ({self.noise_df:.3g} degrees of freedom)")
        if self.expected_regret is not None:
            lines.append(f"  expected regret   {self.expected_regret:.2g}")
        if self.diverged_above is not None:
            lines.append(f"  diverged from     {self.diverged_above:.4g} upwards")
        return "\n".join(lines)


_INTERVALS = ("interval", "min_loss_interval", "curvature_interval")
_TUPLES = (
    "equivalence",
    "exponents",
    "amplitudes",
    "diverged_fraction",
    "outliers",
    "lr",
    "loss",
    "seeds",
    "fitted",
    "residual",
    "residual_sd",
    "vertex_draws",
    "curve_draws",
    "seed_levels",
    "misfit_df",
)


def _plain(value: Any) -> Any:
    if isinstance(value, FitStatus):
        return value.value
    if isinstance(value, Interval):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return finite_or_none(value) if isinstance(value, float) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
