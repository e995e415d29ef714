"""When a loss has left for good."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

OPENING_STEPS = 5
"""Steps whose mean loss is called the initial loss and whose spread gives the first idea of the noise."""
SMOOTHING = 0.1
"""Weight of a new step in the exponential mean that is watched."""
PATIENCE_FRACTION = 0.1
"""Share of the horizon that the mean must stay above the bound; a spike of the catapult phase is shorter
(Lewkowycz et al. 2020, arXiv:2003.02218)."""
LEAST_PATIENCE = 10
"""Steps; for short horizons."""


@final
@dataclass(slots=True)
class DivergenceWatch:
    """Follows the training loss of every step, equal on all ranks, and says when the run has diverged.

    A run has diverged when a loss is not finite, or when the smoothed loss stays above the initial loss by more than
    three standard deviations of the step losses, or a tenth of the best descent if that is more, for a tenth of the
    horizon after the warm-up. It has also diverged when it ends where it began after it had learned, as a model does
    that has collapsed to a constant; a run that never left its start may have too small an LR, and has not. All bounds
    are differences, so they hold for losses of any sign and offset.

    Parameters
    ----------
    horizon : int
        Steps of the trial.
    warmup : int, optional
        Steps before which only a loss that is not finite counts. Default 0.
    patience : int or None, optional
        Steps above the bound. Default None: a tenth of the horizon, at least 10.
    tolerated : int, optional
        Losses in a row that may be not finite. A loss scaler skips such steps, and the weights stay as they were; a
        run whose weights have left does not come back. Default 0.

    Examples
    --------
    >>> watch = DivergenceWatch(horizon=100)
    >>> any(watch.add(loss) for loss in [2.0, 2.1, 1.9, 2.0, 2.0, 1.5, 1.0])
    False
    >>> watch.add(float("inf"))
    'the training loss was inf at step 8'
    """

    horizon: int
    warmup: int = 0
    patience: int | None = None
    tolerated: int = 0
    steps: int = 0
    initial: float = math.nan
    mean: float = math.nan
    lowest: float = math.inf
    _opening: list[float] = field(default_factory=list)
    _noise_variance: float = 0.0
    _above: int = 0
    _not_finite: int = 0

    def add(self, loss: float) -> str | None:
        """Take the loss of the next step and return a reason once the run has diverged, else None."""
        self.steps += 1
        if not math.isfinite(loss):
            self._not_finite += 1
            return f"the training loss was {loss} at step {self.steps}" if self._not_finite > self.tolerated else None
        self._not_finite = 0
        if len(self._opening) < OPENING_STEPS:
            self._opening.append(loss)
            self.mean = self.initial = sum(self._opening) / len(self._opening)
            # Half the mean square of successive differences is the variance of the noise, whatever the trend
            # (von Neumann 1941).
            squares = [(after - before) ** 2 for before, after in zip(self._opening, self._opening[1:], strict=False)]
            self._noise_variance = sum(squares) / (2 * max(1, len(squares)))
        else:
            self.mean += SMOOTHING * (loss - self.mean)
        self.lowest = min(self.lowest, self.mean)
        return self._judge()

    @property
    def bound(self) -> float:
        """The smoothed loss above which the run counts as leaving."""
        return self.initial + max(3 * math.sqrt(self._noise_variance), 0.1 * (self.initial - self.lowest))

    def _judge(self) -> str | None:
        if self.steps <= max(self.warmup, OPENING_STEPS):
            return None
        self._above = self._above + 1 if self.mean > self.bound else 0
        patience = self.patience or max(LEAST_PATIENCE, round(PATIENCE_FRACTION * self.horizon))
        if self._above < patience:
            return None
        return (
            f"the smoothed training loss stayed above {self.bound:.4g} for {self._above} steps, to step {self.steps}; "
            f"it began at {self.initial:.4g}"
        )

    def verdict_at_end(self) -> str | None:
        """Return why a run that stands here at its end has diverged, or None."""
        if not math.isfinite(self.mean):
            return None
        if self.mean > self.bound:
            return f"the training loss ended at {self.mean:.4g}, above its start {self.initial:.4g}"
        descent, noise = self.initial - self.lowest, math.sqrt(self._noise_variance)
        # The smoothed loss of pure noise strays by less than one standard deviation of a step.
        if descent > 3 * noise and self.mean >= self.initial - 0.1 * descent:
            return (
                f"the training loss ended at {self.mean:.4g}, where it began ({self.initial:.4g}), "
                f"after it had been down at {self.lowest:.4g}"
            )
        return None
