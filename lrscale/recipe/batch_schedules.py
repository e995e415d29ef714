"""How the batch grows under a schedule that is compared."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.batch_schedules import BATCH_SCHEDULES, batch_schedule_label, build_batch_schedule
from lrscale.errors import LrscaleError, did_you_mean
from lrscale.recipe.choices import MODULE, ScheduleChoice, long_schedule
from lrscale.recipe.fields import Arguments, refuse, shown
from lrscale.recipe.task import Section
from lrscale.schedules import is_pure

CONSTANT = "constant"

GrowthRule = Literal["auto", "linear", "square_root", "none"]
"""How LR and batch go together; ``auto`` is linear for SGD and the square root for other optimizers."""


def long_batch_schedule(value: Any) -> Any:
    """Return ``{"name": "doubling"}`` for its short form ``"doubling"``."""
    return {"name": value} if isinstance(value, str) else value


class BatchScheduleChoice(Section):
    """A batch-size schedule by name, with the settings that differ from its defaults."""

    name: str
    """``constant``, ``doubling``, ``linear_ramp``, ``piecewise`` or ``instead_of_decay``."""
    settings: Arguments = Field(default_factory=dict)
    """The batch schedule's own fields, such as ``every_fraction``."""
    rule: GrowthRule | None = None
    """How LR and batch go together, in the place of ``lr_power`` and ``power``: ``linear``, ``square_root``, ``none``,
    or ``auto``, which is linear for SGD and the square root for other optimizers. Default: ``auto`` for
    ``instead_of_decay``, the settings' own ``lr_power`` for the others."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in BATCH_SCHEDULES:
            hint = did_you_mean(self.name, BATCH_SCHEDULES)
            refuse(f"names the unknown batch schedule {shown(self.name)}", hint=hint)
        power = "power" if self.follows_decay else "lr_power"
        if self.rule is not None and power in self.settings:
            refuse(f"has both a rule and settings.{power}", hint="remove one of them")
        if self.rule == "none" and self.follows_decay:
            refuse("grows the batch in the place of a decay by no rule", hint="use auto, linear or square_root")
        try:
            schedule = build_batch_schedule(self.name, self.settings)
        except (LrscaleError, TypeError, ValueError) as error:
            told = error if isinstance(error, LrscaleError) else LrscaleError(f"settings do not fit: {error}")
            refuse(f"cannot be used: {told.message}", hint=told.hint)
        # Two spellings of one schedule are one trial, so that a setting equal to its default is dropped.
        defaults = {field.name: field.default for field in dataclasses.fields(schedule)}
        for name in [name for name, value in self.settings.items() if value == defaults[name] and name != "power"]:
            del self.settings[name]
        return self

    @property
    def follows_decay(self) -> bool:
        """Whether the batch grows where the LR would decay."""
        return BATCH_SCHEDULES[self.name].follows_lr

    @property
    def label(self) -> str:
        """The name, the settings that differ from the defaults, and the rule where it is stated."""
        settings = {**self.settings, **({} if self.rule is None else {"rule": self.rule})}
        return batch_schedule_label(self.name, settings)


class ComparedSchedule(ScheduleChoice):
    """A schedule of the learning rate, with one of the batch size where that is said."""

    batch_schedule: Annotated[BatchScheduleChoice, BeforeValidator(long_batch_schedule)] | None = None
    """How the batch grows from ``batch_size`` on: ``doubling``, ``linear_ramp``, ``piecewise``, ``instead_of_decay``; a
    name, or ``{name, settings, rule}``. The examples stay the same, in the same order, so that a batch that grows
    takes fewer steps. Default: it does not grow."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        own = self.batch_schedule
        if own is None:
            return self
        if self.name == MODULE or not is_pure(self.name):
            refuse(
                f"grows the batch under {shown(self.name)}, which is not known before it runs",
                hint="name a schedule that is a function of the position, such as cosine",
            )
        if own.follows_decay and self.name == CONSTANT:
            refuse(
                "grows the batch in the place of a decay, and is constant", hint="name the decay, such as multi_step"
            )
        return self

    @property
    def label(self) -> str:
        """The schedule, and how the batch grows."""
        own = super().label
        return own if self.batch_schedule is None else f"{own} + batch {self.batch_schedule.label}"


OneComparedSchedule = Annotated[ComparedSchedule, BeforeValidator(long_schedule)]
