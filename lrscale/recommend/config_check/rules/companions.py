"""Whether weight decay, betas, momentum and eps are those that the LR was calibrated with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.companions import COMPANIONS, GroupSettings
from lrscale.recommend.companions import VALUES
from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.words import count

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

SAME = 0.02
"""Relative difference of a setting that is rounding; of 1 - beta for a beta, which is what acts."""


@final
class Companions(AbstractRule):
    """Compares the settings of the first parameter group with those that the trials had at the batch of the config.

    Where the study moved them with the batch by a policy, the moved values are wanted; where it left them alone, the
    module's own.

    Status Logic
    ------------
    FAIL where a policy moved a setting and the config states another value; WARNING where a setting differs from that
    of every trial, or where a moved one is not stated; PASS where all that is stated agrees.
    """

    key: ClassVar[str] = "companions"
    question: ClassVar[str] = "Do weight decay, betas and eps move with the batch as in the trials?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        own, setting = calibration.group, calibration.setting
        size = calibration.formed.global_batch_size
        if own is None or setting is None or size is None or calibration.config.applied is not None:
            return None
        used = setting.companions
        wanted, policy = own, None
        if used is not None and used.policy in COMPANIONS:
            policy = used.policy
            wanted = COMPANIONS[policy].move(own, size / used.reference_batch_size).settings
        stated = calibration.config.companions
        named = {name: target for name in VALUES if (target := _of(wanted, name)) is not None}
        wrong = {
            name: target
            for name, target in named.items()
            if name in stated and not same(name, stated[name].value, target)
        }
        value = ", ".join(f"{stated[name].key} {stated[name].value:g}" for name in named if name in stated) or None
        if wrong:
            told = ", ".join(f"{stated[name].key} is {stated[name].value:g}, not {wrong[name]:.4g}" for name in wrong)
            why = (
                f"the trials moved it with the batch by the {policy} policy"
                if policy is not None
                else "the LR was calibrated with the other"
            )
            remedy = "set " + ", ".join(f"{stated[name].key}: {wrong[name]:.6g}" for name in wrong)
            moved = policy is not None and any(not same(name, wrong[name], _of(own, name) or 0.0) for name in wrong)
            return self.says("FAIL" if moved else "WARNING", value, f"At batch {count(size)} {told}: {why}.", remedy)
        missing = [name for name in named if name not in stated and not same(name, named[name], _of(own, name) or 0.0)]
        if policy is not None and missing:
            told = ", ".join(f"{name.replace('_', ' ')} {named[name]:.4g}" for name in missing)
            return self.says(
                "WARNING",
                value,
                f"The trials moved companions with the batch ({policy}): {told} at batch {count(size)}, and the config "
                "does not state them.",
                f"set them, or train with the ApplyRecommendation callback: {told}",
            )
        if not value and policy is None:
            return None
        return self.says("PASS", value, f"What the config states is what the trials had at batch {count(size)}.")


def same(name: str, one: float, other: float) -> bool:
    """Whether two settings act alike.

    Examples
    --------
    >>> same("beta2", 0.999, 0.99), same("weight_decay", 0.1, 0.1005)
    (False, True)
    """
    if name.startswith("beta") or name == "momentum":
        one, other = 1 - one, 1 - other
    return math.isclose(one, other, rel_tol=SAME, abs_tol=1e-15)


def _of(settings: GroupSettings, name: str) -> float | None:
    value: float | None = getattr(settings, name)
    return value


RULES.register(Companions.key)(Companions())
