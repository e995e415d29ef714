"""Whether the job computes in the precision of the trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

ALIASES = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}
"""Short forms of the Trainer's ``precision``."""


@final
class Precision(AbstractRule):
    """Compares the Trainer's precision with that of the trials.

    Status Logic
    ------------
    WARNING where they differ: a narrower one can lower the LR at which training is stable. Not asked where either is
    not stated.
    """

    key: ClassVar[str] = "precision"
    question: ClassVar[str] = "Is the precision that of the trials?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        found, setting = calibration.config.precision, calibration.setting
        trained = None if setting is None else setting.validity.precision
        if found is None or trained is None:
            return None
        value = f"{found.key} {found.value}"
        if _long(found.value) == _long(trained):
            return self.says("PASS", value, f"The trials computed in {trained}.")
        return self.says(
            "WARNING",
            value,
            f"The config computes in {found.value}, and the trials in {trained}: the stable edge may be another one.",
            f"set task.trainer.precision: {found.value} in the recipe and calibrate again, or train in {trained}",
        )


def _long(precision: str) -> str:
    return ALIASES.get(precision, precision)


RULES.register(Precision.key)(Precision())
