"""What a stopper would have saved among trials that trained to their horizon, and what that would have cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.stoppers.base import AbstractStopper, Candidate, Earlier


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A trial that trained to its horizon."""

    lr: float
    """Peak LR."""
    batch_size: int
    examples: int
    """That it trained."""
    losses: Mapping[int, float]
    """Finite loss at each validation, by number from 1; the last one is at the horizon."""
    decayed: Mapping[int, float]
    """Share of the decay that is over at each validation, as `Candidate` has it."""
    final: float
    """Loss at the horizon."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a rule would have done. `replay` makes it."""

    ended: tuple[int | None, ...]
    """Number of the validation at which each trial would have ended; None for the survivors."""
    saved: int
    """Examples that would not have been trained."""
    examples: int
    """Examples that all of them trained."""
    regret: float
    """Lowest final loss of the survivors minus that of all, at least 0; infinite where none survives."""

    @property
    def stopped(self) -> int:
        """Trials that would have ended early."""
        return sum(place is not None for place in self.ended)

    @property
    def share_saved(self) -> float:
        """Examples saved as a share of all, in [0, 1)."""
        return self.saved / self.examples if self.examples else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "trials": len(self.ended),
            "stopped": self.stopped,
            "saved": self.saved,
            "examples": self.examples,
            "share_saved": self.share_saved,
            "regret": self.regret if math.isfinite(self.regret) else None,
        }


def replay(stopper: AbstractStopper, courses: Sequence[Course], validations: int) -> Replay:
    """Play complete trials again under a rule, each knowing of those before it as the rule would have left them.

    Parameters
    ----------
    stopper : AbstractStopper
    courses : sequence of Course
        In the order in which the trials were asked for.
    validations : int
        Validations over the horizon.

    Examples
    --------
    >>> from lrscale.stoppers import Survivors
    >>> shares = {place: place / 4 for place in range(1, 5)}
    >>> def course(lr):
    ...     return Course(lr=lr, batch_size=8, examples=400, decayed=shares, final=abs(lr - 3),
    ...                   losses={place: abs(lr - 3) + 1 / place for place in range(1, 5)})
    >>> played = replay(Survivors(), [course(lr) for lr in (3.0, 2.0, 4.0, 5.0, 1.0, 6.0)], 4)
    >>> played.ended, played.saved, played.regret
    ((None, None, None, None, None, 2), 200, 0.0)
    """
    earlier: list[Earlier] = []
    ended: list[int | None] = []
    for number, course in enumerate(courses):
        candidate = Candidate(lr=course.lr, batch_size=course.batch_size, decayed=course.decayed)
        bounds = stopper.bounds(number, earlier, validations, candidate)
        place = _end(course, bounds, stopper.judged == "best")
        losses = {at: loss for at, loss in course.losses.items() if place is None or at <= place}
        earlier.append(
            Earlier(number=number, losses=losses, completed=place is None, lr=course.lr, batch_size=course.batch_size)
        )
        ended.append(place)
    lowest = min((course.final for course in courses), default=math.inf)
    kept = min((course.final for course, place in zip(courses, ended, strict=True) if place is None), default=math.inf)
    return Replay(
        ended=tuple(ended),
        saved=sum(
            course.examples - round(course.examples * place / validations)
            for course, place in zip(courses, ended, strict=True)
            if place is not None
        ),
        examples=sum(course.examples for course in courses),
        regret=kept - lowest if courses else 0.0,
    )


def _end(course: Course, bounds: Mapping[int, Any], by_best: bool) -> int | None:
    """Return the validation at which a trial ends, or None."""
    best = math.inf
    for place in sorted(course.losses):
        best = min(best, course.losses[place])
        bound = bounds.get(place)
        if bound is not None and (best if by_best else course.losses[place]) > bound.loss:
            return place
    return None
