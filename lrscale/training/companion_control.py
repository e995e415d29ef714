"""The only place that moves betas, eps and weight decay with the batch size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

from lrscale.companions import COMPANIONS, GroupSettings


@final
class CompanionControl:
    """Sets the companions of every parameter group once, before the first step; never the LR.

    Parameters
    ----------
    policy : str or None
        A name in `lrscale.companions.COMPANIONS`; None moves nothing.
    ratio : float, optional
        Global batch size over the one at which the module's own settings hold. Default 1.
    """

    def __init__(self, policy: str | None = None, ratio: float = 1.0) -> None:
        self._policy = policy
        self._ratio = ratio
        self.notes: list[str] = []
        """Where the rule left its range."""

    @classmethod
    def of(cls, companions: Mapping[str, Any], global_batch_size: int) -> CompanionControl:
        """Return the control that a trial's spec asks for."""
        if not companions:
            return cls()
        return cls(str(companions["policy"]), global_batch_size / int(companions["reference_batch_size"]))

    def attach(self, optimizers: Iterable[Any]) -> dict[str, Any]:
        """Move the groups' settings, and return the module's own ones and what was changed."""
        own, used = [], []
        for optimizer in (getattr(one, "optimizer", one) for one in optimizers):
            for group in optimizer.param_groups:
                settings = GroupSettings.of(group, type(optimizer).__name__)
                own.append(settings.to_dict())
                if self._policy is not None:
                    moved = COMPANIONS[self._policy].move(settings, self._ratio)
                    group.update(settings.changes(moved.settings, group))
                    used.append(moved.settings.to_dict())
                    self.notes += [warning for warning in moved.warnings if warning not in self.notes]
        if self._policy is None:
            return {"group_settings": own}
        return {
            "group_settings": own,
            "companions": {"policy": self._policy, "ratio": self._ratio, "group_settings": used},
        }
