"""The result of measuring the gradient noise scale."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.base import Interval, finite_or_none
from lrscale.laws.noise_scale.gradient_sums import GradientSums


@final
class NoiseScaleStatus(enum.Enum):
    """How a measurement of the noise scale ended; the result's `reason` holds the numbers."""

    OK = "ok"
    LOWER_BOUND = "lower_bound"
    TOO_FEW_STEPS = "too_few_steps"
    NOT_MEASURED = "not_measured"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseScale:
    """The simple noise scale of a stretch of training, and how sure it is. `noise_scale` makes it.

    ``B_simple = tr(Sigma) / |G|^2`` (McCandlish et al. 2018), in examples: the batch at which the noise of a gradient
    is as large as the gradient. It is a proxy of the critical batch size, not a measurement of it; under Adam it has
    been seen far below (Merrill et al. 2025).
    """

    status: NoiseScaleStatus
    """How the measurement ended."""
    reason: str
    """One sentence with the numbers behind the status."""
    value: float | None
    """B_simple in examples; only when the status is ok."""
    interval: Interval | None
    """Its interval; when the gradient is not resolved a lower bound, with hi None and its own, higher confidence."""
    squared_gradient: float | None
    """Average of ``|G|^2`` over the steps; negative when noise hides it."""
    squared_gradient_se: float | None
    """Its standard error."""
    noise_trace: float | None
    """Average of tr(Sigma) of one example over the steps."""
    noise_trace_se: float | None
    """Its standard error."""
    covariance: float | None
    """Covariance of the errors of the two averages."""
    degrees_of_freedom: float | None
    """Degrees of freedom of those errors."""
    relative_se: float | None
    """Standard error of the ratio over the ratio (delta method); None when ``|G|^2`` is not above 0."""
    effective_dimension: float | None
    """``tr(Sigma)^2 / tr(Sigma^2)``, from the spread of ``|G|^2`` between steps, which noise is taken to cause."""
    steps: int
    """Measured steps."""
    first_step: int | None
    """Number of the first of them."""
    last_step: int | None
    """Number of the last of them."""
    micro_gradients: float | None
    """Median number of micro-gradients of a step."""
    global_batch_size: float | None
    """Median number of examples of a step."""
    confidence: float
    """Confidence of the interval."""

    @property
    def ok(self) -> bool:
        """Whether `value` is known."""
        return self.status is NoiseScaleStatus.OK

    @classmethod
    def not_measured(cls, reason: str, *, confidence: float = 0.95) -> NoiseScale:
        """Return the result of a measurement that could not be made."""
        return without_answer(NoiseScaleStatus.NOT_MEASURED, reason, None, confidence)

    def steps_needed(self, relative_error: float) -> int | None:
        """Return how many steps of this layout bring the standard error of the ratio down to `relative_error`.

        Parameters
        ----------
        relative_error : float
            Wanted standard error over value, in (0, 1).

        Returns
        -------
        int or None
            From the measured error, which falls with the square root of the steps. When only a lower bound is known it
            is a lower bound too: ``|G|^2`` is taken as large as the interval lets it be. None without measurements.
        """
        if not 0 < relative_error < 1:
            raise LrscaleError(f"relative_error {relative_error} is not between 0 and 1")
        if self.squared_gradient is None or self.squared_gradient_se is None or not self.steps:
            return None
        relative = self.relative_se
        if not self.ok or relative is None:
            largest = self.squared_gradient + 2 * self.squared_gradient_se
            if largest <= 0:
                return None
            relative = self.squared_gradient_se / largest
        return max(1, math.ceil(self.steps * (relative / relative_error) ** 2))

    def summary(self) -> str:
        """Return the result as one sentence.

        Examples
        --------
        >>> NoiseScale.not_measured("the strategy shards the gradient").summary()
        'Noise scale not measured: the strategy shards the gradient.'
        """
        match self.status:
            case NoiseScaleStatus.OK if self.interval is not None:
                head = f"Noise scale {self.value:.3g} examples ({self.interval.text()})"
            case NoiseScaleStatus.LOWER_BOUND if self.interval is not None:
                head = f"Noise scale at least {self.interval.lo:.3g} examples ({self.interval.text()})"
            case _:
                head = "Noise scale not measured"
        return f"{head}: {self.reason}."

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        numbers = {name: finite_or_none(getattr(self, name)) for name in _NUMBERS}
        interval = None if self.interval is None else self.interval.to_dict()
        return {"status": self.status.value, **plain, **numbers, "interval": interval}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NoiseScale:
        """Rebuild what `to_dict` wrote."""
        interval = None if data["interval"] is None else Interval.from_dict(data["interval"])
        kept = {name: data[name] for name in (*_PLAIN, *_NUMBERS)}
        return cls(status=NoiseScaleStatus(data["status"]), interval=interval, **kept)


_PLAIN = ("reason", "steps", "first_step", "last_step", "confidence")
_NUMBERS = (
    "value",
    "squared_gradient",
    "squared_gradient_se",
    "noise_trace",
    "noise_trace_se",
    "covariance",
    "degrees_of_freedom",
    "relative_se",
    "effective_dimension",
    "micro_gradients",
    "global_batch_size",
)


def without_answer(status: NoiseScaleStatus, reason: str, sums: GradientSums | None, confidence: float) -> NoiseScale:
    """Return a result without numbers, of the steps in `sums`."""
    some = sums is not None and len(sums) > 0
    return NoiseScale(
        status=status,
        reason=reason,
        value=None,
        interval=None,
        squared_gradient=None,
        squared_gradient_se=None,
        noise_trace=None,
        noise_trace_se=None,
        covariance=None,
        degrees_of_freedom=None,
        relative_se=None,
        effective_dimension=None,
        steps=0 if sums is None else len(sums),
        first_step=int(sums.step[0]) if sums is not None and some else None,
        last_step=int(sums.step[-1]) if sums is not None and some else None,
        micro_gradients=float(np.median(sums.count)) if sums is not None and some else None,
        global_batch_size=float(np.median(sums.count * sums.examples)) if sums is not None and some else None,
        confidence=confidence,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunNoiseScale:
    """Everything that one training run said of its gradient noise."""

    total: NoiseScale
    """All parameters together."""
    groups: dict[str, NoiseScale]
    """Each parameter group of the optimizer by itself; their ``|G|^2`` and tr(Sigma) add up to those of `total`."""
    preconditioned: NoiseScale
    """The total with every gradient divided by ``sqrt(v_hat) + eps``, as Adam divides it."""
    preconditioned_groups: dict[str, NoiseScale]
    """The same by parameter group; empty without preconditioning."""
    course: tuple[NoiseScale, ...]
    """`total` in consecutive windows over training."""
    notes: tuple[str, ...]
    """Sentences about steps that were left out, and why."""

    def summary(self) -> str:
        """Return the result as a few lines."""
        lines = [self.total.summary()]
        lines += [f"  {name}: {one.summary()}" for name, one in self.groups.items() if len(self.groups) > 1]
        if self.preconditioned_groups:
            lines.append(f"Preconditioned as by Adam. {self.preconditioned.summary()}")
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "total": self.total.to_dict(),
            "groups": {name: one.to_dict() for name, one in self.groups.items()},
            "preconditioned": self.preconditioned.to_dict(),
            "preconditioned_groups": {name: one.to_dict() for name, one in self.preconditioned_groups.items()},
            "course": [one.to_dict() for one in self.course],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunNoiseScale:
        """Rebuild what `to_dict` wrote."""
        return cls(
            total=NoiseScale.from_dict(data["total"]),
            groups={name: NoiseScale.from_dict(one) for name, one in data["groups"].items()},
            preconditioned=NoiseScale.from_dict(data["preconditioned"]),
            preconditioned_groups={
                name: NoiseScale.from_dict(one) for name, one in data["preconditioned_groups"].items()
            },
            course=tuple(NoiseScale.from_dict(one) for one in data["course"]),
            notes=tuple(data["notes"]),
        )
