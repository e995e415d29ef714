"""Whether the batch of the config was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.recommendation import Refusal
from lrscale.recommend.words import count

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration


@final
class MeasuredBatch(AbstractRule):
    """Asks the study for a recommendation at the batch of the config.

    Status Logic
    ------------
    PASS where the batch was measured or lies between measured ones; WARNING beyond them on the fitted law; FAIL where
    the study refuses to name an LR there.
    """

    key: ClassVar[str] = "measured_batch"
    question: ClassVar[str] = "Do the trials tell the best LR at this global batch?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        here, formed = calibration.here, calibration.formed
        if here is None or formed.global_batch_size is None:
            return self.says(
                "WARNING",
                None,
                "The config does not say its batch size, and the trials do not know the data's own.",
                "name the key of the per-device batch size: --key batch_size=data.init_args.samples",
            )
        size = count(formed.global_batch_size)
        assumed = f" ({'; '.join(formed.assumed)})" if formed.assumed else ""
        value = f"global batch {size}{assumed}"
        if isinstance(here, Refusal):
            return self.says("FAIL", value, here.sentence, here.needs)
        measured = ", ".join(count(cell.batch_size) for cell in calibration.cells)
        if here.confidence == "measured":
            return self.says("PASS", value, f"Batch {size} was measured, among {measured}.")
        if here.confidence == "interpolated":
            return self.says("PASS", value, f"Batch {size} lies between measured ones: {measured}.")
        nearest = min(calibration.cells, key=lambda cell: abs(cell.batch_size - here.global_batch_size))
        return self.says(
            "WARNING",
            value,
            f"Batch {size} lies outside of the measured ones, {measured}: its LR is {here.confidence}.",
            f"use batch {count(nearest.batch_size)}, or measure it: add {here.global_batch_size} to "
            "experiments.scaling.batch_sizes",
        )


RULES.register(MeasuredBatch.key)(MeasuredBatch())
