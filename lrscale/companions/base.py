"""What every companions policy is: own settings and a batch ratio give new settings."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from lrscale.errors import LrscaleError
from lrscale.registry import Registry

COUPLED = frozenset(
    {"ASGD", "Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam"}
)
"""Optimizers of torch that add the weight decay to the gradient, unless a group says otherwise."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What of a parameter group can move with the batch size; None for what the optimizer does not have.

    Examples
    --------
    >>> GroupSettings.of({"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}, "AdamW").beta2
    0.95
    """

    beta1: float | None = None
    """Decay rate of Adam's first moment, in [0, 1)."""
    beta2: float | None = None
    """Decay rate of the second moment, of Adam's family and of RMSprop (its ``alpha``), in [0, 1)."""
    momentum: float | None = None
    """Of SGD and RMSprop, in [0, 1)."""
    eps: float | None = None
    """Added to the root of the second moment."""
    weight_decay: float | None = None
    decoupled: bool = False
    """Whether the weight decay acts on the weights and not on the gradient, as in AdamW."""

    @classmethod
    def of(cls, group: Mapping[str, Any], optimizer: str) -> GroupSettings:
        """Read a parameter group.

        Parameters
        ----------
        group : mapping
            One of ``optimizer.param_groups``.
        optimizer : str
            Class name of the optimizer, which tells whether its weight decay is decoupled.
        """
        betas, eps = group.get("betas"), _number(group.get("eps"))
        # A pair of betas beside an eps is Adam's: Lion has a pair and no second moment, others have three.
        adam = isinstance(betas, (tuple, list)) and len(betas) == 2 and eps is not None
        decoupled = group.get("decoupled_weight_decay")
        return cls(
            beta1=_number(betas[0]) if adam and betas is not None else None,
            beta2=_number(betas[1]) if adam and betas is not None else _number(group.get("alpha")),
            momentum=_number(group.get("momentum")),
            eps=eps,
            weight_decay=_number(group.get("weight_decay")),
            decoupled=optimizer not in COUPLED if decoupled is None else bool(decoupled),
        )

    def changes(self, moved: GroupSettings, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return what to set in the group that these settings were read from to give it the moved ones.

        Examples
        --------
        >>> group = {"betas": (0.9, 0.99), "eps": 1e-8}
        >>> own = GroupSettings.of(group, "Adam")
        >>> own.changes(dataclasses.replace(own, beta2=0.98), group)
        {'betas': (0.9, 0.98)}
        """
        changed: dict[str, Any] = {}
        if "betas" in group and (moved.beta1, moved.beta2) != (self.beta1, self.beta2):
            changed["betas"] = type(group["betas"])((moved.beta1, moved.beta2))
        elif "alpha" in group and moved.beta2 != self.beta2:
            changed["alpha"] = moved.beta2
        for name in ("momentum", "eps", "weight_decay"):
            if getattr(moved, name) != getattr(self, name):
                changed[name] = getattr(moved, name)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values of what the optimizer has."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Settings for another batch size."""

    settings: GroupSettings
    warnings: tuple[str, ...] = ()
    """Where the rule leaves its range, as sentences."""


class AbstractCompanions(ABC):
    """A rule for what moves with the batch size besides the LR, which is searched for and never moved by it."""

    key: ClassVar[str]
    """Its name in recipes."""
    sentence: ClassVar[str]
    """What moves, for people."""

    @abstractmethod
    def move(self, own: GroupSettings, ratio: float) -> Moved:
        """Return the settings for another batch size.

        Parameters
        ----------
        own : GroupSettings
            Those that hold at the reference batch size.
        ratio : float
            Batch size over the reference batch size, positive. At 1 the own settings come back.
        """


COMPANIONS: Registry[AbstractCompanions] = Registry("companions policy")


def check_ratio(ratio: float) -> float:
    """Return `ratio`; raise unless it is positive and finite."""
    if not (math.isfinite(ratio) and ratio > 0):
        raise LrscaleError(f"batch ratio {ratio} is not positive", hint="give a batch size over the reference")
    return ratio


def _number(value: Any) -> float | None:
    # A tensor that a captured graph has seen is left alone.
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
