"""Whether the warm-up of the config is as long as that of the trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.words import count, rate
from lrscale.schedules import brings_rise

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

SHORT = 0.5
"""Share of the trials' warm-up below which none of them vouches for the job."""
ROUNDING = 1.0
"""Steps by which a warm-up may be shorter, since lengths are rounded to whole steps."""


@final
class WarmUp(AbstractRule):
    """Compares the warm-up with the shortest one that the trials near this LR went through.

    The LR at which training stays stable rises with the warm-up, so that what the trials showed holds for a warm-up of
    as many steps as theirs. A longer job needs no longer one for that.

    Status Logic
    ------------
    PASS with as many steps as the trials at this batch; FAIL with fewer than half of them; WARNING in between, and
    where the config does not say.
    """

    key: ClassVar[str] = "warmup"
    question: ClassVar[str] = "Is the warm-up as long as that of the trials?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        setting = calibration.setting
        if setting is None or calibration.config.applied is not None:
            # The callback trains with the recommended share of warm-up.
            return None
        size = calibration.formed.global_batch_size or setting.global_batch_size
        own = [
            trial.spec.schedule.warmup_steps
            for trial in calibration.trials_here()
            if trial.spec.schedule.name == setting.schedule.name
        ]
        wanted = min(own) if own else setting.schedule.warmup_examples / size
        remedy = f"warm up over {count(round(wanted))} steps, {count(round(wanted * size))} examples"
        found = calibration.config.warmup
        named = calibration.config.schedule
        if found is None:
            if wanted < 1 or (named is not None and brings_rise(named.value) and "Cycle" in named.value):
                return None
            return self.says(
                "WARNING",
                None,
                f"The config states no warm-up; the trials at batch {count(size)} had {count(round(wanted))} steps.",
                f"{remedy}; or name the key that does: --key warmup=model.init_args.ramp",
            )
        steps = found.steps(size, calibration.steps, calibration.facts.get("training_examples"))
        if steps is None:
            return self.says(
                "INFO",
                f"{found.key} {found.value:g}",
                f"{found.key} {found.value:g} is a share of a length that the config does not state.",
            )
        value = f"{found.key} {found.value:g} = {steps:,.0f} steps"
        if steps >= wanted - ROUNDING:
            return self.says(
                "PASS", value, f"Warm-up of {steps:,.0f} steps; the trials had {count(round(wanted))} at this batch."
            )
        lr = "" if calibration.lr is None else f" to peak LR {rate(calibration.lr[0])}"
        sentence = (
            f"Warm-up of {steps:,.0f} steps{lr} is too short: the trials had {count(round(wanted))} at batch "
            f"{count(size)}, and a shorter one lowers the LR at which training is stable."
        )
        return self.says("FAIL" if steps < SHORT * wanted else "WARNING", value, sentence, remedy)


RULES.register(WarmUp.key)(WarmUp())
