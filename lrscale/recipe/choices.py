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
from lrscale.schedules import SCHEDULER, SCHEDULES, build_schedule, schedule_label
from lrscale.schedules.warmup import WarmupShape

MODULE = "module"
"""Name that stands for the schedulers that the module makes itself."""

_NOT_FOR_TRAINING = "ramp"
INTERVALS = ("step", "epoch")
"""What a scheduler may count."""
_SCHEDULER_KEYS = ("class_path", "init_args", "interval")


class ScheduleChoice(Section):
    """A schedule by name, with the settings that differ from its defaults."""

    name: str
    """A registered schedule, ``module`` for the module's own, or ``scheduler`` for any of torch's or of your own; for
    that ``{class_path, init_args, interval}`` is short."""
    settings: Arguments = Field(default_factory=dict)
    """The schedule's own fields, such as ``final_factor``; for a ``scheduler`` its ``class_path``, ``init_args``, and
    ``interval``: ``step`` or ``epoch``."""
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
        if self.name == SCHEDULER:
            self._check_scheduler()
            return self
        known = [name for name in SCHEDULES if name != _NOT_FOR_TRAINING]
        if self.name.replace("-", "_").replace("_", "").startswith("schedulefree"):
            refuse(
                f"names {shown(self.name)}, which is an optimizer that needs no schedule",
                hint="compare it with experiments.schedules.optimizers: [module, schedule_free_adamw]",
            )
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

    def _check_scheduler(self) -> None:
        for name in self.settings:
            if name not in _SCHEDULER_KEYS:
                refuse(f"has {shown(name)} beside class_path", hint=did_you_mean(name, _SCHEDULER_KEYS))
        path = self.settings.get("class_path")
        if not isinstance(path, str) or "." not in path:
            refuse(
                f"has no class_path of a scheduler: {shown(path)}",
                hint="write for example {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 30}}",
            )
        arguments = self.settings.get("init_args") or {}
        if not isinstance(arguments, dict):
            refuse(f"must have named init_args, not {shown(arguments)}")
        interval = self.settings.get("interval", INTERVALS[0])
        if interval not in INTERVALS:
            refuse(f"has the unknown interval {shown(interval)}", hint=did_you_mean(str(interval), INTERVALS))
        # Two spellings of one scheduler are one trial.
        self.settings.pop("init_args", None)
        self.settings.pop("interval", None)
        if arguments:
            self.settings["init_args"] = arguments
        if interval != INTERVALS[0]:
            self.settings["interval"] = interval

    @property
    def label(self) -> str:
        """The name, the settings that differ from the defaults, and the warm-up where it is stated."""
        label = schedule_label(self.name, self.settings)
        if self.warmup is None:
            return label if self.warmup_shape == "linear" else f"{label} + {self.warmup_shape} warm-up"
        length = f"{100 * self.warmup:g} %" if isinstance(self.warmup, float) else str(self.warmup)
        shape = "" if self.warmup_shape == "linear" else f"{self.warmup_shape} "
        return f"{label} + {length} {shape}warm-up" if self.warmup else f"{label} without warm-up"


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
    """Return ``{"name": "cosine"}`` for its short form ``"cosine"``, and the same for a scheduler's ``class_path``."""
    if isinstance(value, dict) and "class_path" in value and "name" not in value:
        own = {name: value[name] for name in value if name in _SCHEDULER_KEYS}
        return {"name": SCHEDULER, "settings": own, **{name: value[name] for name in value if name not in own}}
    return {"name": value} if isinstance(value, str) else value


def long_comparison(value: Any) -> Any:
    """Return ``{"schedules": [...]}`` for its short form, the list; anything else as it is."""
    return {"schedules": value} if isinstance(value, list) else value


def long_switch(value: Any) -> Any:
    """Return None for ``false`` and an empty mapping, which means the defaults, for ``true``."""
    return ({} if value else None) if isinstance(value, bool) else value


OneSchedule = Annotated[ScheduleChoice, BeforeValidator(long_schedule)]
