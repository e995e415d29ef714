"""The margin to instability over a run: how many times the LR could be before its own update raised the loss."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

SMOOTHED_OVER = 3
"""Measurements whose median decides where the margin reaches 1: one alone has the noise of its batch."""


@final
class SharpnessStatus(enum.Enum):
    """What a course of margins says; the result's `reason` holds the numbers."""

    CROSSED = "crossed"
    NOT_REACHED = "not_reached"
    NOT_MEASURED = "not_measured"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SharpnessPoint:
    """The margin at one step."""

    step: int
    """Number of the step, counted from 1."""
    lr: float
    """LR of the reference group in that step."""
    margin: float
    """Critical step over the step that was taken; below 1 the update raised the loss of its own batch."""
    bound: str | None = None
    """``above`` or ``below`` where the margin is only known to lie there; None where it is measured. An update whose
    margin is below every multiple tried is uphill on its own batch, as momentum can be, and says nothing of curvature.
    """

    @property
    def uphill(self) -> bool:
        """Whether every multiple that was tried raised the loss."""
        return self.bound == "below"

    @property
    def critical_lr(self) -> float:
        """LR at which the update would just not raise the loss."""
        return self.margin * self.lr

    @property
    def sharpness(self) -> float:
        """Critical sharpness ``2 / critical_lr``: for gradient descent the curvature along the gradient."""
        return 2 / self.critical_lr


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SharpnessCourse:
    """Margins over a run. `sharpness_course` makes it."""

    status: SharpnessStatus
    reason: str
    """One sentence with the numbers behind the status."""
    points: tuple[SharpnessPoint, ...]
    """In the order of their steps."""
    smallest: SharpnessPoint | None
    """The point with the smallest margin, of those that are not uphill."""
    edge_lr: float | None
    """LR at which the margin reached 1, between two measurements, or the critical LR of the first one where that lies
    beyond the edge already; None where the edge was not reached."""
    edge_step: int | None
    """Step of the measurement at which it had."""

    @property
    def measured(self) -> tuple[SharpnessPoint, ...]:
        """The points that are not uphill."""
        return tuple(point for point in self.points if not point.uphill)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        return {
            "status": self.status.value,
            "reason": self.reason,
            "points": [_plain(point) for point in self.points],
            "smallest": None if self.smallest is None else _plain(self.smallest),
            "edge_lr": self.edge_lr,
            "edge_step": self.edge_step,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SharpnessCourse:
        """Read what `to_dict` wrote; further keys, which an instrument may add, are ignored."""
        values = {name: data[name] for name in cls.__slots__}
        values["status"] = SharpnessStatus(data["status"])
        values["points"] = tuple(SharpnessPoint(**point) for point in data["points"])
        values["smallest"] = None if data["smallest"] is None else SharpnessPoint(**data["smallest"])
        return cls(**values)


def sharpness_course(points: Sequence[SharpnessPoint], *, missing: str | None = None) -> SharpnessCourse:
    """Return what measured margins say of the stability edge.

    The edge is where the margin, a running median of three measurements, falls to 1; the LR there is interpolated
    between the two measurements, in logarithms. A run that begins beyond it has the critical LR of its first step.
    Updates that are uphill on their own batch are counted and left out.

    Parameters
    ----------
    points : sequence of SharpnessPoint
        In the order of their steps.
    missing : str or None, optional
        Why nothing was measured, for a run without points. Default None.

    Returns
    -------
    SharpnessCourse

    Examples
    --------
    >>> ramp = [SharpnessPoint(step=step, lr=0.1 * 2**step, margin=8 / 2**step) for step in range(6)]
    >>> round(sharpness_course(ramp).edge_lr, 6)
    0.8
    """
    every = tuple(points)
    points = [point for point in every if not point.uphill]
    said = ""
    if len(points) < len(every):
        said = f"{len(every) - len(points)} of {len(every)} updates were uphill on their own batch"
    if not points:
        return SharpnessCourse(
            status=SharpnessStatus.NOT_MEASURED,
            reason=said or missing or "no step was measured",
            points=every,
            smallest=None,
            edge_lr=None,
            edge_step=None,
        )
    smallest = min(points, key=lambda point: point.margin)
    margins = _running_median(np.log([point.margin for point in points]))
    least = f"the smallest margin is {smallest.margin:.3g}, at step {smallest.step} and LR {smallest.lr:.3g}"
    tail = f"; {said} and are left out" if said else ""
    crossed = np.flatnonzero(margins <= 0)
    if not len(crossed):
        return SharpnessCourse(
            status=SharpnessStatus.NOT_REACHED,
            reason=f"{least}: the edge was not reached up to LR {max(point.lr for point in points):.3g}{tail}",
            points=every,
            smallest=smallest,
            edge_lr=None,
            edge_step=None,
        )
    at = int(crossed[0])
    # A run that begins beyond the edge does not pass it; there the edge is what its first margin says.
    edge = points[at].lr * math.exp(margins[at])
    if at == 0:
        passed = f"the margin was below 1 from step {points[at].step} on, where the critical LR was {edge:.3g}"
    else:
        share = margins[at - 1] / (margins[at - 1] - margins[at])
        before, after = math.log(points[at - 1].lr), math.log(points[at].lr)
        edge = math.exp(before + share * (after - before))
        passed = f"the margin reached 1 at LR {edge:.3g}, by step {points[at].step}"
    return SharpnessCourse(
        status=SharpnessStatus.CROSSED,
        reason=f"{passed}; {least}{tail}",
        points=every,
        smallest=smallest,
        edge_lr=edge,
        edge_step=points[at].step,
    )


def _running_median(values: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    half = SMOOTHED_OVER // 2
    if len(values) < SMOOTHED_OVER:
        return values
    inner = np.median(np.lib.stride_tricks.sliding_window_view(values, SMOOTHED_OVER), axis=1)
    return np.concatenate([values[:half], inner, values[-half:]])


def _plain(point: SharpnessPoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in SharpnessPoint.__slots__}
