"""A schedule by name, and the short forms of entries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.recipe.fields import Arguments, WarmupLength, refuse, shown
from lrscale.recipe.task import Section
from lrscale.schedules import SCHEDULES, build_schedule, schedule_label
from lrscale.schedules.warmup import WarmupShape

MODULE = "module"
"""Name that stands for the schedulers that the module makes itself."""

_NOT_FOR_TRAINING = "ramp"


class ScheduleChoice(Section):
    """A schedule by name, with the settings that differ from its defaults."""

    name: str
    """A registered schedule, or ``module`` for the module's own."""
    settings: Arguments = Field(default_factory=dict)
    """The schedule's own fields, such as ``final_factor``."""
    warmup: WarmupLength | None = None
    """Length of the warm-up in front of it: ``4k examples``, ``200 steps``, or a share of the horizon such as ``5 %``
    or 0.05. Default: the `warmup_fraction` of the experiment, in front of schedules that do not bring their own rise.
    """
    warmup_shape: WarmupShape = "linear"
    """``linear`` or ``cosine``."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name == MODULE:
            if self.settings:
                refuse("takes no settings: the module's own schedule has its own")
            if self.warmup is not None:
                refuse("takes no warmup: the module's own schedule has its own")
            return self
        known = [name for name in SCHEDULES if name != _NOT_FOR_TRAINING]
        if self.name not in known:
            refuse(f"names the unknown schedule {shown(self.name)}", hint=did_you_mean(self.name, [*known, MODULE]))
        try:
            schedule = build_schedule(self.name, self.settings)
        except LrscaleError as error:
            refuse(f"cannot be used: {error.message}", hint=error.hint)
        # Two spellings of one schedule are one trial, so that a setting equal to its default is dropped.
        defaults = {field.name: field.default for field in dataclasses.fields(schedule)}
        for name in [name for name, value in self.settings.items() if value == defaults[name]]:
            del self.settings[name]
        return self

    @property
    def label(self) -> str:
        """The name, the settings that differ from the defaults, and the warm-up where it is stated."""
        label = schedule_label(self.name, self.settings)
        if self.warmup is None:
            return label if self.warmup_shape == "linear" else f"{label}, {self.warmup_shape} warm-up"
        length = f"{100 * self.warmup:g} %" if isinstance(self.warmup, float) else str(self.warmup)
        shape = "" if self.warmup_shape == "linear" else f"{self.warmup_shape} "
        return f"{label}, {length} {shape}warm-up" if self.warmup else f"{label}, no warm-up"


def listed(value: Any) -> Any:
    """Return ``[value]`` for the short form of a list with one entry, a text; anything else as it is."""
    return [value] if isinstance(value, str) else value


def listed_text(values: Sequence[str]) -> str:
    """Return names one after the other.

    Examples
    --------
    >>> listed_text(["none", "sde"])
    'none and sde'
    """
    return " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)


def long_schedule(value: Any) -> Any:
    """Return ``{"name": "cosine"}`` for its short form ``"cosine"``; anything else as it is."""
    return {"name": value} if isinstance(value, str) else value


def long_comparison(value: Any) -> Any:
    """Return ``{"schedules": [...]}`` for its short form, the list; anything else as it is."""
    return {"schedules": value} if isinstance(value, list) else value


def long_switch(value: Any) -> Any:
    """Return None for ``false`` and an empty mapping, which means the defaults, for ``true``."""
    return ({} if value else None) if isinstance(value, bool) else value


OneSchedule = Annotated[ScheduleChoice, BeforeValidator(long_schedule)]
