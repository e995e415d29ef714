"""Whether the job is as long as what was calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.transfer import judge_horizon
from lrscale.recommend.words import count

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

ROUNDING = 0.01
"""Relative difference of a length that is rounding to whole steps."""


@final
class Horizon(AbstractRule):
    """Compares the length with that of the trials, by published exponents of the best LR against it.

    Status Logic
    ------------
    PASS at the length of the trials; WARNING at another; FAIL where published exponents put the best LR of the two
    lengths more than a decade apart. INFO where the config states no length.
    """

    key: ClassVar[str] = "horizon"
    question: ClassVar[str] = "Is the job as long as the trials?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        setting = calibration.setting
        if setting is None:
            return None
        trained = setting.validity.horizon_examples
        length, examples = calibration.config.horizon, calibration.horizon_examples
        if length is None or examples is None:
            return self.says(
                "INFO",
                None if length is None else f"{length.key} {length.value}",
                f"The config states no length that can be counted in examples; the trials had {count(trained)}.",
            )
        epochs = calibration.config.max_epochs
        also = "" if epochs is None or epochs.key == length.key else f", {epochs.key} {epochs.value}"
        value = f"{length.key} {length.value}{also} = {count(examples)} examples"
        if abs(examples / trained - 1) <= max(ROUNDING, (calibration.formed.global_batch_size or 0) / trained):
            return self.says("PASS", value, f"The trials were as long: {count(trained)} examples.")
        verdict = judge_horizon(trained, examples, setting.peak_lr)
        if verdict is None:
            return self.says("PASS", value, f"The trials were as long: {count(trained)} examples.")
        return self.says(
            "FAIL" if verdict.confidence == "cannot tell" else "WARNING",
            value,
            verdict.reason,
            "calibrate nearer to that length (experiments.scaling.horizon), or forecast it (experiments.forecast)",
        )


RULES.register(Horizon.key)(Horizon())
