"""A launch config as the rules see it: what it sets, and under which key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

from lrscale.recommend.recommendation import Recommendation
from lrscale.units import Duration

WarmupUnit = Literal["steps", "examples", "epochs", "share"]


@final
@dataclass(frozen=True, slots=True)
class Number:
    """A number of the config."""

    value: float
    key: str
    """Dotted key, or in words where it was taken from."""


@final
@dataclass(frozen=True, slots=True)
class Text:
    """A name in the config."""

    value: str
    key: str


@final
@dataclass(frozen=True, slots=True)
class Length:
    """A length of training in the config."""

    value: Duration
    key: str


@final
@dataclass(frozen=True, slots=True)
class WarmupLength:
    """A warm-up in the config."""

    value: float
    unit: WarmupUnit
    """``share`` is one of the horizon."""
    key: str

    def steps(self, batch_size: int, horizon_steps: int | None, training_examples: int | None) -> float | None:
        """Return it in optimizer steps, or None where what it is a part of is unknown.

        Examples
        --------
        >>> WarmupLength(0.1, "share", "warmup_ratio").steps(64, 500, None)
        50.0
        """
        if self.unit == "steps":
            return self.value
        if self.unit == "examples":
            return self.value / batch_size
        if self.unit == "share":
            return None if horizon_steps is None else self.value * horizon_steps
        return None if training_examples is None else self.value * training_examples / batch_size


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfig:
    """What a launch config sets; None where it says nothing."""

    source: str
    """Names of its files."""
    lr: Number | None = None
    """Peak LR."""
    per_device_batch_size: Number | None = None
    accumulate: Number | None = None
    devices: Number | None = None
    num_nodes: Number | None = None
    global_batch_size: Number | None = None
    horizon: Length | None = None
    max_epochs: Length | None = None
    """Epochs after which the job ends too, where its length is stated otherwise."""
    schedule: Text | None = None
    """A schedule's name, or the class path of a scheduler."""
    warmup: WarmupLength | None = None
    optimizer: Text | None = None
    """Class path or name."""
    companions: Mapping[str, Number] = field(default_factory=dict)
    """By the names of `lrscale.companions.GroupSettings`: betas, momentum, eps, weight decay."""
    ema: Number | None = None
    """Decay of an average of the weights, per step."""
    precision: Text | None = None
    classes: Mapping[str, Any] = field(default_factory=dict)
    """Class paths of ``model`` and ``data``."""
    applied: Recommendation | None = None
    """The recommendation that the job's `ApplyRecommendation` trains by."""
