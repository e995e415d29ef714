"""The batch from which on larger ones hardly train faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.laws.base import check_confidence
from lrscale.laws.step_time.mean import SeriesMean

DRAWS = 2000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedKnee:
    """Smallest measured size whose speed reaches a share of the best. `speed_knee` makes it."""

    size: int
    """Per-device batch size in examples."""
    lo: int | None
    hi: int | None
    """Measured sizes between which it lies at the confidence; None where no error was measured."""
    share: float
    """Share of the largest speed that counts as reaching it."""
    at_edge: bool
    """Whether it is the largest size measured, so that the true knee may lie beyond."""
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for a finding."""
        return {
            "size": self.size,
            "lo": self.lo,
            "hi": self.hi,
            "share": self.share,
            "at_edge": self.at_edge,
            "confidence": self.confidence,
        }


def speed_knee(steps: Mapping[int, SeriesMean], *, share: float = 0.9, confidence: float = 0.95) -> SpeedKnee:
    """Return the smallest measured size that reaches a share of the largest speed.

    Parameters
    ----------
    steps : mapping of int to SeriesMean
        Per-device batch size -> seconds of a step, of one number of ranks; at least one.
    share : float, optional
        In (0, 1]. Default 0.9.
    confidence : float, optional
        Of the interval, which comes from step times drawn anew from their errors: log-normal, Student's t. Default
        0.95.

    Examples
    --------
    >>> steps = {size: SeriesMean(value=0.01 + 0.001 * size, se=1e-4, degrees=9) for size in (4, 16, 64, 256)}
    >>> knee = speed_knee(steps)
    >>> knee.size, knee.lo, knee.hi
    (256, 64, 256)
    """
    confidence = check_confidence(confidence)
    sizes = sorted(steps)
    batch = np.array(sizes, dtype=np.float64)
    seconds = np.array([steps[size].value for size in sizes])

    def knees(times: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.intp]]:
        speed = batch / times
        found: np.ndarray[Any, np.dtype[np.intp]] = np.argmax(speed >= share * speed.max(axis=-1, keepdims=True), -1)
        return found

    place = int(knees(seconds[None, :])[0])
    lo = hi = None
    if all(step.se is not None for step in steps.values()):
        rng = np.random.default_rng(20260101)
        error = np.array([(steps[size].se or 0.0) / steps[size].value for size in sizes])
        noise = np.stack([rng.standard_t(max(1, steps[size].degrees), DRAWS) for size in sizes], axis=1)
        drawn = knees(seconds * np.exp(np.clip(noise * error, -5, 5)))
        ends = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], method="closest_observation")
        lo, hi = sizes[int(ends[0])], sizes[int(ends[1])]
    return SpeedKnee(
        size=sizes[place], lo=lo, hi=hi, share=share, at_edge=place == len(sizes) - 1, confidence=confidence
    )
