"""Peak memory as a line in the per-device batch size, where it has left the floor that other parts of a step set."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.special import stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray, Interval, check_confidence, finite_or_none

NOISE_FLOOR = 1e-3
"""Least residual standard deviation, as a share of the largest peak: allocators round sizes up (PyTorch's caching
allocator to 2 MiB blocks), and three points on a line by chance would otherwise claim to be exact."""


@final
class MemoryStatus(enum.Enum):
    """How the fit ended; the result's `reason` holds the numbers."""

    OK = "ok"
    TOO_FEW_SIZES = "too_few_sizes"
    NOT_RISING = "not_rising"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """Peak memory ``max(floor, fixed + per_example * batch)`` of the worst rank. `fit_memory` makes it."""

    status: MemoryStatus
    """Only ``ok`` predicts."""
    reason: str
    """One sentence with the numbers behind the status."""
    fixed: float | None
    """Bytes that do not depend on the batch: parameters, gradients, optimizer state, the runtime."""
    fixed_interval: Interval | None
    per_example: float | None
    """Bytes of one example, mostly activations kept for the backward."""
    per_example_interval: Interval | None
    line_from: int | None
    """Smallest size that lies on the line; below it the floor is the peak."""
    residual_sd: float | None
    """Standard deviation about the line in bytes, `NOISE_FLOOR` at the least."""
    confidence: float
    _centre: float = 0.0
    _level: float = 0.0
    _spread: float = 0.0
    _points: int = 0
    _degrees: int = 0

    @property
    def ok(self) -> bool:
        """Whether the fit predicts."""
        return self.status is MemoryStatus.OK

    def predict(self, size: float) -> tuple[float, Interval]:
        """Return the peak at a size in bytes, and the interval in which a measured peak there would lie.

        Raises
        ------
        LrscaleError
            When the fit has no answer.
        """
        if self.per_example is None or self.residual_sd is None or self.fixed is None:
            raise LrscaleError(f"memory cannot be predicted: {self.reason}", hint="probe more batch sizes")
        value = self.fixed + self.per_example * size
        share = 1 + 1 / self._points + (size - self._centre) ** 2 / self._spread
        half = float(stdtrit(self._degrees, 0.5 + self.confidence / 2)) * self.residual_sd * math.sqrt(share)
        return value, Interval(value - half, value + half, self.confidence)

    def largest_within(self, memory: float, *, sure: bool = True) -> int:
        """Return the largest size whose predicted peak stays within `memory` bytes; 0 where none does.

        Parameters
        ----------
        memory : float
            Bytes.
        sure : bool, optional
            Whether the upper end of the prediction must stay within. Default True; else the prediction itself.

        Raises
        ------
        LrscaleError
            When the fit has no answer.
        """
        assert self.per_example is not None or not self.ok
        value, _ = self.predict(1)
        high = max(1, int((memory - value) / (self.per_example or 1.0)) + 2)
        low = 0
        # The upper end bends up away from the measured sizes, so that both ends rise with the size from some size on;
        # below it more memory never hurts, and a bisection finds the last size that stays within.
        while low < high:
            middle = (low + high + 1) // 2
            value, interval = self.predict(middle)
            if (interval.hi if sure and interval.hi is not None else value) <= memory:
                low = middle
            else:
                high = middle - 1
        return low

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for a finding."""
        return {
            "status": self.status.value,
            "reason": self.reason,
            "fixed": finite_or_none(self.fixed),
            "fixed_interval": None if self.fixed_interval is None else self.fixed_interval.to_dict(),
            "per_example": finite_or_none(self.per_example),
            "per_example_interval": None if self.per_example_interval is None else self.per_example_interval.to_dict(),
            "line_from": self.line_from,
            "residual_sd": finite_or_none(self.residual_sd),
            "confidence": self.confidence,
        }


def fit_memory(peaks: Mapping[int, float], *, confidence: float = 0.95) -> MemoryFit:
    """Fit ``max(floor, fixed + per_example * batch)`` to the peak memory of probes that ran.

    Activations grow with the batch, everything else does not (Rajbhandari et al. 2020, arXiv:1910.02054, section 3).
    At small batches the optimizer step or the start can be the peak: those sizes lie on a floor and leave the line. How
    many do is decided by BIC over every split; the line is least squares, its intervals Student's t.

    Parameters
    ----------
    peaks : mapping of int to float
        Per-device batch size in examples, at least 1 -> peak bytes of the worst rank, positive.
    confidence : float, optional
        Of the intervals, in (0, 1). Default 0.95.

    Returns
    -------
    MemoryFit
        ``too_few_sizes`` with fewer than 3 sizes: a line through two points has no interval. ``not_rising`` where the
        interval of the bytes of an example holds 0.

    Raises
    ------
    LrscaleError
        For a size below 1 or a peak that is not positive.

    Examples
    --------
    >>> fit = fit_memory({8: 1.4e9, 16: 1.8e9, 32: 2.6e9})
    >>> round(fit.fixed / 1e9, 3), round(fit.per_example / 1e6, 3)
    (1.0, 50.0)
    >>> fit.largest_within(4e9, sure=False)
    60
    """
    confidence = check_confidence(confidence)
    for size, peak in peaks.items():
        if size < 1 or not peak > 0:
            raise LrscaleError(f"a peak of {peak:g} bytes at batch {size} is no measurement", hint="leave it out")
    sizes = np.array(sorted(peaks), dtype=np.float64)
    values = np.array([peaks[int(size)] for size in sizes])
    if len(sizes) < 3:
        return _without(
            MemoryStatus.TOO_FEW_SIZES,
            f"{len(sizes)} batch size{'s' if len(sizes) != 1 else ''} ran, and a line with an interval needs 3",
            confidence,
        )
    start = _first_on_line(sizes, values)
    x, y = sizes[start:], values[start:]
    slope, level, centre, spread, degrees, deviation = _line(x, y, float(values.max()))
    quantile = float(stdtrit(degrees, 0.5 + confidence / 2))
    half = quantile * deviation / math.sqrt(spread)
    if slope - half <= 0:
        return _without(
            MemoryStatus.NOT_RISING,
            f"the peak does not rise measurably from batch {sizes[0]:.0f} to {sizes[-1]:.0f}: "
            f"{slope:.3g} +- {half:.3g} bytes an example",
            confidence,
        )
    fixed = level - slope * centre
    half_fixed = quantile * deviation * math.sqrt(1 / len(x) + centre**2 / spread)
    return MemoryFit(
        status=MemoryStatus.OK,
        reason=f"{len(x)} of {len(sizes)} batch sizes lie on a line within {deviation / 2**20:.3g} MiB",
        fixed=fixed,
        fixed_interval=Interval(fixed - half_fixed, fixed + half_fixed, confidence),
        per_example=slope,
        per_example_interval=Interval(slope - half, slope + half, confidence),
        line_from=int(x[0]),
        residual_sd=deviation,
        confidence=confidence,
        _centre=centre,
        _level=level,
        _spread=spread,
        _points=len(x),
        _degrees=degrees,
    )


def _line(x: FloatArray, y: FloatArray, scale: float) -> tuple[float, float, float, float, int, float]:
    centre, level = float(x.mean()), float(y.mean())
    spread = float(((x - centre) ** 2).sum())
    slope = float(((x - centre) * (y - level)).sum()) / spread
    degrees = len(x) - 2
    residual = y - level - slope * (x - centre)
    deviation = max(math.sqrt(float((residual**2).sum()) / degrees), NOISE_FLOOR * scale)
    return slope, level, centre, spread, degrees, deviation


def _first_on_line(sizes: FloatArray, values: FloatArray) -> int:
    """Return how many of the smallest sizes lie on the floor; at least three sizes stay on the line."""
    count = len(sizes)
    noise = (NOISE_FLOOR * float(values.max())) ** 2
    scores = []
    for start in range(count - 2):
        coefficients = np.polyfit(sizes[start:], values[start:], 1)
        rest = float(((np.polyval(coefficients, sizes[start:]) - values[start:]) ** 2).sum())
        if start:
            floor = values[:start]
            rest += float(((floor - floor.mean()) ** 2).sum())
        parameters = 2 if start == 0 else 4
        scores.append(count * math.log(rest / count + noise) + parameters * math.log(count))
    return int(np.argmin(scores))


def _without(status: MemoryStatus, reason: str, confidence: float) -> MemoryFit:
    return MemoryFit(
        status=status,
        reason=reason,
        fixed=None,
        fixed_interval=None,
        per_example=None,
        per_example_interval=None,
        line_from=None,
        residual_sd=None,
        confidence=confidence,
    )


def round_sizes(limit: int) -> Sequence[int]:
    """Return the sizes up to `limit` that are worth telling apart: five significant binary digits.

    Neighbours differ by at most a sixteenth, and large ones are multiples of a power of two, so that they divide the
    global batches that people use.

    Examples
    --------
    >>> list(round_sizes(40))[-8:]
    [29, 30, 31, 32, 34, 36, 38, 40]
    """
    sizes, size = [], 1
    while size <= limit:
        sizes.append(size)
        size += max(1, 2 ** (size.bit_length() - 5))
    return sizes
