"""From two averages with their errors to a noise scale: a number with an interval, or a lower bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import stdtrit

from lrscale.laws.base import FloatArray, Interval
from lrscale.laws.noise_scale.result import NoiseScale, NoiseScaleStatus

RESOLVED = 0.3
"""Largest se(|G|^2) / |G|^2 at which the ratio of the two averages is reported as a number."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """Averages of ``|G|^2`` and tr(Sigma), and how sure they are."""

    means: FloatArray
    """Shape (2,)."""
    covariance: FloatArray
    """Of the errors of the means, shape (2, 2)."""
    df: float
    """Its degrees of freedom."""

    @property
    def noise_trace(self) -> float:
        """The average of tr(Sigma)."""
        return float(self.means[1])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The steps that a noise scale stands on; the fields are those of `NoiseScale`."""

    steps: int
    first_step: int
    last_step: int
    micro_gradients: float
    global_batch_size: float


def judge(averages: Averages, scope: Scope, *, effective_dimension: float | None, confidence: float) -> NoiseScale:
    """Return the ratio with Fieller's interval, or the lower bound alone where ``|G|^2`` is not resolved."""
    means, covariance = averages.means, averages.covariance
    gradient, trace = (float(mean) for mean in means)
    se_gradient, se_trace = (math.sqrt(variance) for variance in np.diag(covariance))
    lo, hi = _fieller(means, covariance, float(stdtrit(averages.df, 0.5 + confidence / 2)))
    resolved = gradient > 0 and se_gradient <= RESOLVED * gradient and hi is not None
    share = f"|G|^2 is {gradient:.3g} with a standard error of {se_gradient:.2g}, over {scope.steps} steps"
    relative = None
    if gradient > 0 and trace > 0:
        unit = np.array([-1 / gradient, 1 / trace])
        relative = math.sqrt(max(0.0, float(unit @ covariance @ unit)))
    batch = scope.global_batch_size
    return NoiseScale(
        status=NoiseScaleStatus.OK if resolved else NoiseScaleStatus.LOWER_BOUND,
        reason=share if resolved else f"{share}; global batch {batch:g} is too small, or the steps too few, for more",
        value=max(0.0, trace / gradient) if resolved else None,
        interval=Interval(lo, hi, confidence) if resolved else Interval(lo, None, (1 + confidence) / 2),
        squared_gradient=gradient,
        squared_gradient_se=se_gradient,
        noise_trace=trace,
        noise_trace_se=se_trace,
        covariance=float(covariance[0, 1]),
        degrees_of_freedom=averages.df,
        relative_se=relative,
        effective_dimension=effective_dimension,
        steps=scope.steps,
        first_step=scope.first_step,
        last_step=scope.last_step,
        micro_gradients=scope.micro_gradients,
        global_batch_size=scope.global_batch_size,
        confidence=confidence,
    )


def _fieller(means: FloatArray, covariance: FloatArray, quantile: float) -> tuple[float, float | None]:
    """Return the ends of Fieller's set for tr(Sigma) / |G|^2 among ratios of at least 0; hi None: unbounded."""
    (gradient, trace), square = means, quantile**2
    a = gradient**2 - square * covariance[0, 0]
    b = gradient * trace - square * covariance[0, 1]
    c = trace**2 - square * covariance[1, 1]
    root = math.sqrt(max(0.0, b**2 - a * c))
    if c <= 0:
        # tr(Sigma) itself may be 0.
        return 0.0, float((b + root) / a) if a > 0 and gradient > 0 else None
    if a > 0 and gradient > 0:
        return float(max(0.0, (b - root) / a)), float((b + root) / a)
    if a > 0:
        # |G|^2 comes out below 0 by more than its error, and no ratio agrees; it is bounded by one error above 0.
        return float(trace / (quantile * math.sqrt(covariance[0, 0]))), None
    # The set is what lies outside of two roots of opposite sign; in this form the positive one does not cancel.
    return float(c / max(b + root, math.ulp(0.0))), None
