"""Whether a forward of the config fits on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.measured import find
from lrscale.recommend.words import count

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration


@final
class FitsInMemory(AbstractRule):
    """Compares the per-device batch with those that ran and those that ran out of memory.

    Status Logic
    ------------
    FAIL at or above a size that did not fit, or above the recipe's bound; WARNING above the largest that ran, or in the
    margin that the probes keep free; PASS up to that size. Not asked where no trial tells a size.
    """

    key: ClassVar[str] = "memory"
    question: ClassVar[str] = "Does the per-device batch fit?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        size = calibration.formed.per_device_batch_size
        if size is None:
            return None
        value = f"{count(size)} per device"
        probed = find(calibration.findings, "memory")
        data = {} if probed is None else probed.data
        failed = [data.get("smallest_failed"), *self._out_of_memory(calibration)]
        bound = calibration.recipe.layout.max_per_device_batch_size
        smallest = min((one for one in failed if one), default=None)
        fits, ran = data.get("size"), [data.get("largest"), *self._ran(calibration)]
        largest = max((one for one in ran if one), default=None)
        best = fits or largest
        remedy = None if best is None else f"use at most {count(best)} per device, and accumulate the rest"
        if smallest is not None and size >= smallest and (largest is None or size > largest):
            return self.says("FAIL", value, f"{count(smallest)} per device ran out of memory in the trials.", remedy)
        if bound is not None and size > bound and (largest is None or size > largest):
            sentence = f"{count(size)} per device is above {count(bound)}, the bound that the study was given."
            return self.says("FAIL", value, sentence, f"use at most {count(bound)} per device, and accumulate the rest")
        if largest is None:
            return None
        if size > largest:
            return self.says(
                "WARNING",
                value,
                f"No trial ran more than {count(largest)} per device.",
                f"{remedy}; or run lrscale memory",
            )
        if fits is not None and size > fits:
            sentence = f"{count(size)} per device ran, with less memory free than the margin that was asked for."
            return self.says("WARNING", value, sentence, remedy)
        return self.says("PASS", value, f"Trials ran {count(largest)} per device.")

    def _ran(self, calibration: Calibration) -> list[int]:
        return [
            trial.record.layout.per_device_batch_size
            for trial in calibration.view
            if trial.record.status == "completed" and trial.record.layout is not None and not trial.spec.overrides
        ]

    def _out_of_memory(self, calibration: Calibration) -> list[int]:
        return [
            trial.record.layout.per_device_batch_size
            for trial in calibration.view
            if trial.record.status == "out_of_memory" and trial.record.layout is not None and not trial.spec.overrides
        ]


RULES.register(FitsInMemory.key)(FitsInMemory())
