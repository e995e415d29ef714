"""Steps, examples and batch sizes of a trial as its trajectory counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lrscale.batch_schedules import BatchCourse


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepCounts:
    """From the number of steps that a trial has done to what its weights have seen.

    Examples
    --------
    >>> counts = StepCounts(course=BatchCourse((4, 6, 8)), base=16, before=4)
    >>> counts.number(1), counts.examples(1), counts.batch_size(1)
    (5, 96, 32)
    """

    course: BatchCourse
    """Of the trial."""
    base: int
    """Examples of a base step."""
    before: int = 0
    """Optimizer steps done before the trial."""

    def number(self, steps: int) -> int:
        """Return the optimizer steps done since the beginning of training."""
        return self.before + steps

    def examples(self, steps: int) -> int:
        """Return the examples seen since the beginning of training."""
        return self.course.edges[steps] * self.base

    def own_examples(self, steps: int) -> int:
        """Return those of them that the trial has seen itself."""
        return (self.course.edges[steps] - self.course.start) * self.base

    def batch_size(self, steps: int) -> int:
        """Return the batch size of the last step done."""
        return self.course.multiple(max(0, steps - 1)) * self.base
