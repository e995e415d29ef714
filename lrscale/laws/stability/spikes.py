"""Loss spikes: a step whose loss and gradient both stand far above the recent ones."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.base import MAD_TO_SD, finite_or_none

FloatArray = NDArray[np.float64]

WINDOW = 200
"""Losses before a step that it is compared with."""
LEAST_WINDOW = 20
"""Losses below which a median absolute deviation says too little: its own relative error is a quarter there."""
WINDOWS_IN_A_RUN = 5
"""A run shorter than this many windows has a shorter window."""
LOSS_HEIGHT = 6.0
"""Robust standard deviations above the median from which on a loss is a spike."""
GRADIENT_HEIGHT = 4.0
"""The same for the norm of the gradient, which must agree."""
RECOVERED_WITHIN = 2.0
"""Median absolute deviations of the median that count as back."""
ROUNDING = 2.0**-23
"""Relative spacing of 32-bit losses; a spread below it is rounding and not noise."""
LARGEST = float(np.finfo(np.float64).max)
"""A height that overflows stays a number, which JSON can hold."""
ROWS = 4096
"""Windows that are looked at together; bounds the memory for long runs."""


@final
class SpikeStatus(enum.Enum):
    """How the search for spikes ended; the result's `reason` holds the numbers."""

    OK = "ok"
    TOO_FEW_STEPS = "too_few_steps"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """One excursion of the training loss."""

    step: int
    """Number of its first step, counted from 1."""
    height: float
    """Its highest loss above the median of the losses before it, in robust standard deviations of those."""
    rise: float
    """The same in the unit of the loss."""
    gradient_height: float | None
    """Norm of the gradient above its median, in robust standard deviations; None where no gradient was seen, or where
    it was infinite."""
    recovered_after: int | None
    """Steps until the loss was back within two median absolute deviations; None when it was not."""
    recovered: bool | None
    """Whether it was back in time; None when the run ended before that could be told."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spikes:
    """The spikes of one run. `find_spikes` makes it."""

    status: SpikeStatus
    """How the search ended."""
    reason: str
    """One sentence with the numbers behind the status."""
    spikes: tuple[Spike, ...]
    """In the order of their steps."""
    steps: int
    """Steps with a finite loss."""
    window: int
    """Losses that each was compared with."""
    recovery: int
    """Steps within which a spike must be back."""
    gradient_seen: bool
    """Whether the norm of the gradient had to agree; without it the loss decides alone."""

    @property
    def largest(self) -> Spike | None:
        """The highest spike, or None."""
        return max(self.spikes, key=lambda spike: spike.height, default=None)

    @property
    def lasting(self) -> int:
        """Number of spikes that were not back in time."""
        return sum(spike.recovered is False for spike in self.spikes)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["status"] = self.status.value
        plain["spikes"] = [{name: getattr(one, name) for name in Spike.__slots__} for one in self.spikes]
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spikes:
        """Read what `to_dict` wrote; further keys, which an instrument may add, are ignored."""
        values = {name: data[name] for name in cls.__slots__}
        values["status"] = SpikeStatus(data["status"])
        values["spikes"] = tuple(Spike(**one) for one in data["spikes"])
        return cls(**values)


def find_spikes(
    loss: Sequence[float | None] | FloatArray,
    grad_norm: Sequence[float | None] | FloatArray | None = None,
    *,
    window: int | None = None,
    recovery: int | None = None,
) -> Spikes:
    """Find the spikes of a training loss.

    A step is a spike when ``(L_t - med) / (1.4826 MAD) > 6`` over the ``window`` losses before it, and when the norm of
    its gradient, or of the gradient one step earlier, whose update it shows, stands more than 4 robust standard
    deviations above its own median there. Only losses before a step are compared with it, so that the descent at the
    start, where each loss is below those before it, is no spike; a spike within that descent must rise above it. The
    steps until the loss is back belong to the same spike.

    Parameters
    ----------
    loss : sequence of float or None, shape (steps,)
        Training loss of each step, the mean over all ranks; of any sign. None and values that are not finite are gaps.
    grad_norm : sequence of float or None, shape (steps,), optional
        Norm of the gradient of each step, before clipping. Infinity agrees with any spike, a gap with none. Default
        None: the loss decides alone.
    window : int or None, optional
        Losses to compare with, at least 20. Default None: 200, or a fifth of the run where that is less.
    recovery : int or None, optional
        Steps within which a spike that is back counts as recovered. Default None: half the window.

    Returns
    -------
    Spikes
        Its status is ``too_few_steps`` where not even two windows of 20 are there. The answer changes with a factor or
        an offset of the losses only as `Spike.rise` does.

    Raises
    ------
    LrscaleError
        When the two sequences differ in length, or for a window below 20.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(2, 300))
    >>> loss, norm = 2 + 0.01 * noise[0], 1 + 0.1 * noise[1]
    >>> loss[150:153] += 0.5; norm[150] += 3
    >>> found = find_spikes(loss, norm)
    >>> [(spike.step, spike.recovered_after) for spike in found.spikes]
    [(151, 3)]
    """
    losses = _array(loss)
    norms = None if grad_norm is None else _array(grad_norm)
    if norms is not None and len(norms) != len(losses):
        raise LrscaleError(f"{len(losses)} losses have {len(norms)} gradient norms", hint="give one for each step")
    if window is not None and window < LEAST_WINDOW:
        raise LrscaleError(f"window {window} is below {LEAST_WINDOW}", hint="noise is not known from fewer losses")
    present = np.flatnonzero(np.isfinite(losses))
    count = len(present)
    width = window or min(WINDOW, max(LEAST_WINDOW, count // WINDOWS_IN_A_RUN))
    within = recovery or width // 2
    seen = norms is not None and bool(np.isfinite(norms).any())
    if count < 2 * LEAST_WINDOW:
        return Spikes(
            status=SpikeStatus.TOO_FEW_STEPS,
            reason=f"{count} steps have a loss, and spikes are told from noise from {2 * LEAST_WINDOW} on",
            spikes=(),
            steps=count,
            window=width,
            recovery=within,
            gradient_seen=seen,
        )
    levels = None if norms is None or not seen else norms[present]
    with np.errstate(over="ignore", invalid="ignore"):
        found = _search(losses[present], levels, present + 1, width, within)
    lasting = sum(spike.recovered is False for spike in found)
    return Spikes(
        status=SpikeStatus.OK,
        reason=f"{len(found)} spikes in {count} steps, {lasting} of them not back within {within} steps",
        spikes=tuple(found),
        steps=count,
        window=width,
        recovery=within,
        gradient_seen=seen,
    )


def _search(
    losses: FloatArray, norms: FloatArray | None, steps: NDArray[np.intp], width: int, within: int
) -> list[Spike]:
    medians, spreads = _before(losses, width)
    heights = (losses - medians) / spreads
    found: list[Spike] = []
    free_from = 0
    for at in np.flatnonzero(heights > LOSS_HEIGHT):
        if at < free_from:
            continue
        gradient = None if norms is None else _gradient_height(norms, int(at), width)
        if norms is not None and not (gradient is not None and gradient > GRADIENT_HEIGHT):
            continue
        median, spread = float(medians[at]), float(spreads[at])
        after = losses[at + 1 : at + 1 + within]
        back = np.flatnonzero(after <= median + RECOVERED_WITHIN * spread / MAD_TO_SD)
        length = int(back[0]) + 1 if len(back) else len(after) + 1
        highest = float(losses[at : at + length].max())
        recovered = True if len(back) else False if len(after) == within else None
        found.append(
            Spike(
                step=int(steps[at]),
                height=min((highest - median) / spread, LARGEST),
                rise=min(highest - median, LARGEST),
                gradient_height=finite_or_none(gradient),
                recovered_after=length if recovered else None,
                recovered=recovered,
            )
        )
        free_from = int(at) + length
    return found


def _before(values: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Return median and robust standard deviation of the values before each one, NaN where they are too few.

    The deviation is computed only where a value stands above the median; elsewhere it is infinite, since nothing there
    can be a spike.
    """
    medians, spreads = np.full(len(values), np.nan), np.full(len(values), np.inf)
    for at in range(LEAST_WINDOW, min(width, len(values))):
        medians[at] = np.median(values[:at])
        if values[at] > medians[at]:
            spreads[at] = _spread(values[None, :at], medians[at : at + 1])[0]
    if len(values) > width:
        windows = sliding_window_view(values[:-1], width)
        for first in range(0, len(windows), ROWS):
            rows = windows[first : first + ROWS]
            own = np.median(rows, axis=1)
            places = np.arange(first, first + len(rows)) + width
            medians[places] = own
            above = values[places] > own
            spreads[places[above]] = _spread(rows[above], own[above])
    return medians, spreads


def _spread(rows: FloatArray, medians: FloatArray) -> FloatArray:
    deviations = np.abs(rows - medians[:, None])
    spread = MAD_TO_SD * np.median(deviations, axis=1)
    # Where more than half of the values are equal the median deviation is 0; the mean deviation still sees the others.
    spread = np.where(spread > 0, spread, math.sqrt(math.pi / 2) * deviations.mean(axis=1))
    floor = np.maximum(ROUNDING * np.abs(medians), np.finfo(np.float64).tiny)
    return np.maximum(spread, floor)


def _gradient_height(norms: FloatArray, at: int, width: int) -> float | None:
    heights = []
    for place in (at, at - 1):
        before = norms[max(0, place - width) : place]
        before = before[np.isfinite(before)]
        if len(before) < LEAST_WINDOW - 1 or np.isnan(norms[place]):
            continue
        median = np.median(before, keepdims=True)
        heights.append(float((norms[place] - median[0]) / _spread(before[None], median)[0]))
    return max(heights, default=None)


def _array(values: Sequence[float | None] | FloatArray) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
