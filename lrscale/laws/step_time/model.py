"""The time of a step as computation and synchronisation that overlap in part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray

GAMMA = (1.0, 10.0)
"""Bounds of the overlap: at 1 the two parts follow each other, at 10 the longer one hides the other."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TimedLayout:
    """One measured layout."""

    per_device_batch_size: int
    """Examples of one forward on one device."""
    ranks: int
    """Devices over all nodes."""
    seconds: float
    """Mean time of a step."""
    accumulate: int = 1
    """Forwards of a step on each device."""

    def __post_init__(self) -> None:
        for name in ("per_device_batch_size", "ranks", "accumulate"):
            if getattr(self, name) < 1:
                raise LrscaleError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.seconds < float("inf"):
            raise LrscaleError(f"a step of {self.seconds} seconds is no measurement", hint="leave it out")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimeModel:
    """``T = (k - 1) G + (G^gamma + S^gamma)^(1/gamma)``, the form of Pollux (Qiao et al. 2021, OSDI, arXiv:2008.12260).

    ``G = compute_fixed + compute_per_example * b`` is the time of one forward and backward of b examples, k the
    accumulation. ``S = sync_fixed + sync_per_rank * (R - 2)`` is the time to reduce the gradients over R ranks, 0 for
    one.

    Examples
    --------
    >>> model = StepTimeModel(
    ...     compute_fixed=0.01, compute_per_example=1e-3, sync_fixed=0.02, sync_per_rank=0.001, gamma=1.0
    ... )
    >>> [round(model.seconds(16, ranks), 3) for ranks in (1, 2, 8)]
    [0.026, 0.046, 0.052]
    """

    compute_fixed: float
    """Seconds of a forward and backward that do not depend on the batch."""
    compute_per_example: float
    """Seconds of each example."""
    sync_fixed: float
    """Seconds of the reduction over two ranks."""
    sync_per_rank: float
    """Further seconds for each rank beyond two."""
    gamma: float
    """Overlap of the two, within `GAMMA`."""

    def seconds(self, per_device_batch_size: float, ranks: int, accumulate: int = 1) -> float:
        """Return the time of a step."""
        row = np.array(
            [[self.compute_fixed, self.compute_per_example, self.sync_fixed, self.sync_per_rank, self.gamma]]
        )
        times = step_seconds(
            row,
            np.array([float(per_device_batch_size)]),
            np.array([float(ranks)]),
            np.array([float(accumulate)]),
        )
        return float(times[0, 0])


def step_seconds(params: FloatArray, batch: FloatArray, ranks: FloatArray, accumulate: FloatArray) -> FloatArray:
    """Return step times, shape (m, n), for m rows of parameters in the order of `StepTimeModel` and n layouts."""
    compute_fixed, compute_per_example, sync_fixed, sync_per_rank, gamma = (params[:, [place]] for place in range(5))
    compute = compute_fixed + compute_per_example * batch
    sync = np.where(ranks > 1, sync_fixed + sync_per_rank * np.maximum(ranks - 2, 0), 0.0)
    # Divided by the longer part, so that no power overflows.
    longer = np.maximum(compute, sync)
    joint = longer * ((compute / longer) ** gamma + (sync / longer) ** gamma) ** (1 / gamma)
    times: FloatArray = (accumulate - 1) * compute + joint
    return times
