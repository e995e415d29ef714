"""Questions that trials answer which branch off from others, or whose batch grows."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from lrscale.batch_schedules.base import LARGEST_MULTIPLE
from lrscale.errors import LrscaleError
from lrscale.recipe.choices import OneSchedule, ScheduleChoice
from lrscale.recipe.fields import Count, LearningRate, Length, Real, distinct, refuse, require_countable
from lrscale.recipe.task import Section
from lrscale.schedules import is_pure
from lrscale.schedules.cooldown import require_decay
from lrscale.units import Duration

Rule = Literal["auto", "linear", "square_root", "none"]
"""How the LR follows the batch; ``auto`` is linear for SGD and the square root for other optimizers."""


class Horizons(Section):
    """The best LR and the final loss at several horizons, from trunks at a constant LR that cooldowns branch off from.

    Each peak LR has a trunk of its own, and all horizons are read off it.
    """

    lengths: Annotated[tuple[Length, ...], Field(min_length=2)]
    """Horizons, rising, all in one unit: ``[10k examples, 20k examples, 40k examples]``."""
    batch_size: Count | None = None
    """Global batch size. Default: the best one of `scaling`, or that of the range test."""
    cooldown_fraction: Annotated[Real, Field(gt=0, lt=1)] = 0.2
    """Share of each horizon over which the LR falls at its end, in (0, 1)."""
    cooldown: str = "one_minus_sqrt"
    """Shape of the fall: a ``decay`` of the schedule ``wsd``."""
    final_factor: Annotated[Real, Field(ge=0, le=1)] = 0.0
    """Factor of the peak LR at the end, in [0, 1]."""
    warmup_fraction: Annotated[Real, Field(ge=0, lt=1)] = 0.05
    """Share of the shortest horizon spent in linear warm-up, in [0, 1): one trunk has one warm-up."""
    seeds: Count = 2
    """Seed replicates at the best LRs."""
    learning_rates: Annotated[tuple[LearningRate, ...], Field(min_length=1)] | None = None
    """Peak LRs to try at each horizon. Default: a search at each, which begins by what the one before has found."""
    ratio: Annotated[Real, Field(gt=1)] = 2.0
    """Ratio of neighbouring LRs, above 1."""
    max_learning_rates: Annotated[Count, Field(ge=3)] = 10
    """Most LRs tried at a horizon, at least 3."""
    validations: Count = 10
    """Validations over the longest horizon."""
    own_runs: bool = True
    """Whether runs of their own at the second horizon measure what sharing a trunk changes."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        distinct(self.learning_rates or ())
        for length in self.lengths:
            require_countable(length)
        if len({length.unit for length in self.lengths}) > 1:
            refuse("mixes the units of its lengths", hint="state all of them in examples")
        if any(before.value >= after.value for before, after in pairwise(self.lengths)):
            refuse("must have lengths that rise", hint="order them from the shortest to the longest")
        first, last = self.lengths[0], self.lengths[-1]
        if self.warmup_fraction >= 1 - self.cooldown_fraction:
            refuse("warms up until its first cooldown begins", hint="lower warmup_fraction or cooldown_fraction")
        if first.value < 1 or last.value < 1:
            refuse("must have lengths of at least 1")
        try:
            require_decay(self.cooldown, self.final_factor)
        except LrscaleError as error:
            refuse(f"cannot cool down: {error.message}", hint=error.hint)
        return self


class CriticalBatch(Section):
    """The largest batch that costs no more examples, measured by branches at larger batches from one trunk."""

    batch_size: Count | None = None
    """Global batch size of the trunk. Default: the smallest of `scaling`, or that of the range test."""
    learning_rate: LearningRate | None = None
    """LR of the trunk, constant after its warm-up. Default: the best one of `scaling` there, by its area."""
    horizon: Length | None = None
    """Length of the trunk. Default: that of `scaling`, else 400 steps."""
    at: Annotated[tuple[Annotated[Real, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.25, 0.75)
    """Shares of the trunk after which branches begin, in (0, 1]."""
    window: Annotated[Real, Field(gt=0, le=1)] = 0.2
    """Length of a branch as a share of the trunk, in (0, 1]; rounded up to whole steps of the largest batch."""
    multiples: Annotated[tuple[Annotated[Count, Field(ge=2, le=LARGEST_MULTIPLE)], ...], Field(min_length=1)] = (
        2,
        4,
        8,
        16,
    )
    """Batches of the branches, as multiples of the trunk's. One that is out of tolerance is the last that is tried."""
    rule: Rule = "auto"
    """How the LR of a branch follows its batch."""
    orders: Annotated[Count, Field(ge=2)] = 3
    """Orders of the examples behind each branch point, at least 2: what differs between them is the noise."""
    tolerance: Annotated[Real, Field(gt=0)] | None = None
    """Loss by which a larger batch may end above a smaller one. Default: twice the standard deviation of the difference
    between branches at the trunk's own batch that see other orders."""
    warmup_fraction: Annotated[Real, Field(ge=0, lt=1)] = 0.05
    """Share of the trunk spent in linear warm-up, in [0, 1)."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        distinct(self.at)
        require_countable(self.horizon)
        if list(self.multiples) != sorted(set(self.multiples)):
            refuse("must have multiples that rise", hint="order them from the smallest to the largest")
        if min(self.at) <= self.warmup_fraction:
            refuse(f"branches off at {min(self.at):g} of the trunk, inside its warm-up", hint="branch off later")
        return self


class GrowingBatch(Section):
    """Whether a batch that grows does what an LR that decays does, at equal examples."""

    schedule: OneSchedule = Field(
        default_factory=lambda: ScheduleChoice(
            name="multi_step", settings={"milestones": [0.4, 0.6, 0.8], "gamma": 0.5}
        )
    )
    """The decay that the batch takes the place of."""
    batch_size: Count | None = None
    """Global batch size at the beginning. Default: the smallest of `scaling`."""
    horizon: Length | None = None
    """Length of every trial. Default: that of `scaling`."""
    rule: Literal["auto", "linear", "square_root"] = "auto"
    """How the batch answers a decay by f: ``linear`` grows it by 1 / f, ``square_root`` by 1 / f^2; ``auto`` is linear
    for SGD and the square root for other optimizers."""
    most: Annotated[Count, Field(ge=2, le=LARGEST_MULTIPLE)] = 16
    """Largest multiple of the first batch; beyond it the LR decays."""
    seeds: Count = 3
    """Seed replicates at the best LRs."""
    max_learning_rates: Annotated[Count, Field(ge=3)] = 8
    """Most LRs tried with each, at least 3."""
    margin: Annotated[Real, Field(ge=0, lt=1)] = 0.005
    """Relative difference of the loss that counts as equal, in [0, 1)."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        require_countable(self.horizon)
        if not is_pure(self.schedule.name):
            refuse("follows a schedule that is not known before it runs", hint="name a pure one, such as multi_step")
        return self


def require_own_sizes(name: str, batch_size: int | None, horizon: Duration | None, *, scaling: bool) -> None:
    """Refuse a section that takes its batch size or horizon from a `scaling` that is off."""
    for field, value in (("batch_size", batch_size), ("horizon", horizon)):
        if value is None and not scaling:
            refuse(f"need {name}.{field} while scaling is off", hint=f"set experiments.{name}.{field}")
