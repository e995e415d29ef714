"""An optimizer by name, to be compared with the module's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.errors import did_you_mean
from lrscale.recipe.choices import MODULE
from lrscale.recipe.fields import Arguments, refuse, shown
from lrscale.recipe.task import Section
from lrscale.schedules import SCHEDULER, schedule_label

OWN_CLASS = "class"
"""Name that stands for an optimizer of the user's own, whose ``class_path`` is in the settings."""

_DECAY: Final = {"weight_decay": None}
_ADAM: Final = {"betas": [0.9, 0.999], "eps": 1e-8, **_DECAY}

OPTIMIZERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sgd": {"momentum": 0.9, "nesterov": False, **_DECAY},
    "adam": _ADAM,
    "adamw": _ADAM,
    "lion": {"betas": [0.9, 0.99], **_DECAY},
    "muon": {"momentum": 0.95, "nesterov": True, **_DECAY},
    "schedule_free_sgd": {"momentum": 0.9, **_DECAY},
    "schedule_free_adamw": _ADAM,
}
"""Optimizers by name, with their settings and the defaults of those. A weight decay of None is that of the module's own
groups."""

SCHEDULE_FREE = ("schedule_free_sgd", "schedule_free_adamw")
"""Those that average the weights and so need no decay of the LR (Defazio et al. 2024, arXiv:2405.15682)."""

TYPICAL_LR: Final[Mapping[str, float]] = {
    "sgd": 30.0,
    "adam": 1.0,
    "adamw": 1.0,
    "lion": 0.2,
    "muon": 1.0,
    "schedule_free_sgd": 300.0,
    "schedule_free_adamw": 4.0,
}
"""Best LR over that of AdamW, by order of magnitude: where a search begins, which then walks. Lion 3 to 10 times less
(Chen et al. 2023, arXiv:2302.06675); Muon's updates are scaled to those of AdamW (Liu et al. 2025, arXiv:2502.16982);
schedule-free 1 to 10 times more than Adam, 10 to 50 times more than SGD (arXiv:2405.15682)."""

_CLASS_KEYS = ("class_path", "init_args")


class OptimizerChoice(Section):
    """An optimizer by name, with the settings that differ from its defaults."""

    name: str
    """``module`` for the module's own, one of ``sgd``, ``adam``, ``adamw``, ``lion``, ``muon``, ``schedule_free_sgd``,
    ``schedule_free_adamw``, or ``class`` for any other; for that ``{class_path, init_args}`` is short."""
    settings: Arguments = Field(default_factory=dict)
    """The optimizer's own settings besides the LR, such as ``momentum``; for a ``class`` its ``class_path`` and
    ``init_args``."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name == OWN_CLASS:
            self._check_class()
            return self
        known = OPTIMIZERS.get(self.name, {})
        if self.name not in (*OPTIMIZERS, MODULE):
            refuse(
                f"names the unknown optimizer {shown(self.name)}", hint=did_you_mean(self.name, [*OPTIMIZERS, MODULE])
            )
        for setting, value in list(self.settings.items()):
            if setting not in known:
                hint = did_you_mean(setting, known) if known else "its settings are the module's affair"
                refuse(f"gives {self.name} the setting {shown(setting)}, which it does not have", hint=hint)
            # Two spellings of one optimizer are one trial, so that a setting equal to its default is dropped.
            if value == known[setting]:
                del self.settings[setting]
        return self

    def _check_class(self) -> None:
        path, arguments = self.settings.get("class_path"), self.settings.get("init_args") or {}
        for name in self.settings:
            if name not in _CLASS_KEYS:
                refuse(f"has {shown(name)} beside class_path", hint=did_you_mean(name, _CLASS_KEYS))
        if not isinstance(path, str) or "." not in path or not isinstance(arguments, dict):
            refuse(
                f"has no class_path of an optimizer: {shown(path)}",
                hint="write for example {class_path: torch.optim.NAdam, init_args: {momentum_decay: 0.004}}",
            )
        if "lr" in arguments:
            refuse("gives an optimizer an lr, which is what is searched for", hint="leave lr out of init_args")
        self.settings.pop("init_args", None)
        if arguments:
            self.settings["init_args"] = arguments

    @property
    def is_own(self) -> bool:
        """Whether it is the module's own."""
        return self.name == MODULE

    @property
    def is_schedule_free(self) -> bool:
        """Whether it stands in place of a schedule."""
        return self.name in SCHEDULE_FREE

    @property
    def label(self) -> str:
        """The name, and the settings that differ from the defaults."""
        # A class is named alike, be it that of a scheduler or of an optimizer.
        return schedule_label(SCHEDULER if self.name == OWN_CLASS else self.name, self.settings)

    def to_spec(self) -> dict[str, Any]:
        """Return what a trial's spec says of it; empty for the module's own."""
        return {} if self.is_own else {"name": self.name, "settings": dict(self.settings)}


def _long(value: Any) -> Any:
    if isinstance(value, dict) and "class_path" in value and "name" not in value:
        return {"name": OWN_CLASS, "settings": value}
    return {"name": value} if isinstance(value, str) else value


OneOptimizer = Annotated[OptimizerChoice, BeforeValidator(_long)]
"""An optimizer; its name, or ``{class_path, init_args}``, is short for it."""
