"""Whether the job has the optimizer of the trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration


@final
class Optimizer(AbstractRule):
    """Compares the class of the optimizer with that of the trials: an LR says nothing for another one.

    Status Logic
    ------------
    FAIL where the config names another class by its path; WARNING where a bare name differs, which may be an argument
    of the module's own; PASS where they agree. Not asked where the config names none.
    """

    key: ClassVar[str] = "optimizer"
    question: ClassVar[str] = "Is the optimizer that of the trials?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        found = calibration.config.optimizer
        trained = [str(name) for name in calibration.facts.get("optimizers", ())]
        if found is None or not trained:
            return None
        value = f"{found.key} {found.value}"
        name = found.value.rpartition(".")[2]
        if _plain(name) in {_plain(one) for one in trained}:
            return self.says("PASS", value, f"The trials had {', '.join(trained)}.")
        return self.says(
            "FAIL" if "." in found.value else "WARNING",
            value,
            f"The config names {name}, and the LR was calibrated for {', '.join(trained)}.",
            f"calibrate {name} in a study of its own, or train with {trained[0]}",
        )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


RULES.register(Optimizer.key)(Optimizer())
