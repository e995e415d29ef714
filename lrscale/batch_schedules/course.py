"""The optimizer steps that a batch schedule makes of a trial's examples."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.batch_schedules.base import AbstractBatchSchedule
from lrscale.errors import LrscaleError
from lrscale.schedules import AbstractSchedule


@final
@dataclass(frozen=True, slots=True)
class BatchCourse:
    """Which base steps each optimizer step of a trial covers.

    A base step is as many examples as the trial's first batch has. Where the batch does not grow, each optimizer step
    is one.

    Parameters
    ----------
    edges : sequence of int
        Base steps done before each optimizer step, rising, and at last those done at the end.

    Examples
    --------
    >>> from lrscale.batch_schedules import Doubling
    >>> course = BatchCourse.of(Doubling(every_fraction=0.5), None, horizon=8)
    >>> list(course.edges), course.steps, list(course.multiples())
    ([0, 1, 2, 3, 4, 6, 8], 6, [1, 1, 1, 1, 2, 2])
    """

    edges: Sequence[int]

    @classmethod
    def of(
        cls,
        batches: AbstractBatchSchedule | None,
        lr: AbstractSchedule | None,
        horizon: int,
        start: int = 0,
    ) -> BatchCourse:
        """Return the course of a trial.

        The last step ends at the horizon, and is smaller where that is not a whole number of batches away: so every
        batch schedule sees as many examples.

        Parameters
        ----------
        batches : AbstractBatchSchedule or None
            None keeps the first batch.
        lr : AbstractSchedule or None
            For batch schedules that follow the decay of the LR.
        horizon : int
            Base steps of the trial, at least 1.
        start : int, optional
            Base steps done before it begins. Default 0.

        Raises
        ------
        LrscaleError
            When it would begin at its end or later, or follow an LR schedule that is not known.
        """
        if not 0 <= start < horizon:
            raise LrscaleError(f"a trial of {horizon} base steps cannot begin after {start} of them")
        if batches is None:
            return cls(range(start, horizon + 1))
        if not batches.follows_lr:
            return cls(_edges(start, horizon, [batches.multiple(position, horizon) for position in range(horizon)]))
        if lr is None:
            raise LrscaleError(
                f"{type(batches).__name__} follows the decay of a learning-rate schedule, and the module's own is not "
                "known before it runs",
                hint="name a schedule of lrscale's",
            )
        highest, multiples = 0.0, []
        for position in range(horizon):
            factor = lr.factor(position, horizon)
            highest = max(highest, factor)
            multiples.append(batches.multiple(position, horizon, factor / highest if highest > 0 else 1.0))
        return cls(_edges(start, horizon, multiples))

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return len(self.edges) - 1

    @property
    def start(self) -> int:
        """Base steps done before the first."""
        return self.edges[0]

    @property
    def end(self) -> int:
        """Base steps done after the last."""
        return self.edges[-1]

    @property
    def plain(self) -> bool:
        """Whether every optimizer step is one base step."""
        return self.steps == self.end - self.start

    def multiple(self, step: int) -> int:
        """Return the base steps of an optimizer step, counted from 0: its batch over the first one's."""
        return self.edges[step + 1] - self.edges[step]

    def multiples(self) -> Iterator[int]:
        """Yield them of each step."""
        return map(self.multiple, range(self.steps))

    @property
    def largest(self) -> int:
        """The largest of them."""
        return 1 if self.plain else max(self.multiples())

    def first_from(self, position: int) -> int:
        """Return the number of the first step that begins at a position or later, and the count of steps if none."""
        return min(self.steps, bisect_left(self.edges, position))

    def last_steps(self, share: float) -> int:
        """Return how many of the last steps cover a share of the whole horizon, at least 1."""
        return max(1, self.steps - self.first_from(self.end - max(1, round(share * self.end))))


@final
@dataclass(frozen=True, slots=True)
class GrownLR(AbstractSchedule):
    """An LR schedule under a batch schedule: its factor times the multiple to the power of the batch schedule's rule.

    Parameters
    ----------
    schedule : AbstractSchedule
        As a function of base steps.
    course : BatchCourse
        Of the trial.
    power : float
        `AbstractBatchSchedule.lr_power`.
    """

    schedule: AbstractSchedule
    course: BatchCourse
    power: float

    @override
    def factor(self, position: int, horizon: int) -> float:
        step = bisect_left(self.course.edges, position)
        inside = step < self.course.steps and self.course.edges[step] == position
        multiple = self.course.multiple(step) if inside else 1
        return self.schedule.factor(position, horizon) * math.pow(multiple, self.power)

    @override
    def momentum(self, position: int, horizon: int) -> float | None:
        return self.schedule.momentum(position, horizon)


def _edges(start: int, horizon: int, multiples: Sequence[int]) -> tuple[int, ...]:
    edges = [start]
    while edges[-1] < horizon:
        edges.append(min(horizon, edges[-1] + multiples[edges[-1]]))
    return tuple(edges)
