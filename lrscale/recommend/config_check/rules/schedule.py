"""Whether the schedule of the config is the recommended one, or one that is as good."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.recommend.config_check.rules.base import RULES, AbstractRule, Judgement
from lrscale.recommend.measured import ScheduleResult, find, schedule_results
from lrscale.recommend.recommendation import MODULE
from lrscale.recommend.words import percent
from lrscale.schedules import SCHEDULES, schedule_label

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

TORCH = {
    "ConstantLR": "constant",
    "CosineAnnealingLR": "cosine",
    "CosineAnnealingWarmRestarts": "cosine_restarts",
    "CyclicLR": "triangular",
    "ExponentialLR": "exponential",
    "LinearLR": "linear",
    "MultiStepLR": "multi_step",
    "OneCycleLR": "one_cycle",
    "PolynomialLR": "polynomial",
    "ReduceLROnPlateau": "reduce_on_plateau",
    "StepLR": "step",
}
"""Classes of torch.optim.lr_scheduler, by the schedule whose shape they have."""


@final
class Schedule(AbstractRule):
    """Compares the schedule with the recommended one, by what the comparison of schedules measured.

    Status Logic
    ------------
    PASS for the recommended schedule and those that tied with the best; FAIL for one that was measured worse, with the
    interval of the difference; WARNING for one that was not compared, whose best LR is another one. INFO where the
    config names none.
    """

    key: ClassVar[str] = "schedule"
    question: ClassVar[str] = "Is the schedule the recommended one?"

    @override
    def judge(self, calibration: Calibration) -> Judgement | None:
        setting, config = calibration.setting, calibration.config
        if setting is None:
            return None
        wanted = schedule_label(setting.schedule.name, setting.schedule.settings)
        remedy = f"train with {wanted}: the callback lrscale.ApplyRecommendation does"
        if config.applied is not None:
            own = config.applied.schedule
            if own == setting.schedule or (own.name, own.settings) == (
                setting.schedule.name,
                setting.schedule.settings,
            ):
                return self.says("PASS", wanted, f"ApplyRecommendation trains with {wanted}, as the study recommends.")
            value = schedule_label(own.name, own.settings)
            sentence = f"ApplyRecommendation trains with {value}; this study recommends {wanted}."
            return self.says("WARNING", value, sentence, "take the recommendation of this study")
        if config.schedule is None:
            if setting.schedule.name == MODULE:
                return self.says("PASS", None, "The study followed the module's own schedule, as the job does.")
            return self.says(
                "INFO",
                None,
                f"The config names no schedule; the study recommends {wanted}.",
                f"{remedy}; or name the key that says it: --key schedule=model.init_args.decay",
            )
        found = config.schedule
        value = f"{found.key} {found.value}"
        name = named_schedule(found.value)
        if name == setting.schedule.name or found.value == setting.schedule.settings.get("class_path"):
            return self.says("PASS", value, f"The study recommends {wanted}.")
        result = self._compared(calibration, name)
        if result is None:
            sentence = (
                f"The schedule {name} was not compared; LRs were calibrated under {wanted}, and each has its own."
            )
            return self.says("WARNING", value, sentence, f"{remedy}; or add {name} to experiments.schedules")
        if result.verdict in ("best", "tied"):
            lr = (
                ""
                if result.cell is None or not result.cell.lr.value
                else f", at its own best LR {result.cell.lr.value:.2g}"
            )
            return self.says("PASS", value, f"The schedule {result.label} ties with the best of those compared{lr}.")
        if result.verdict == "worse":
            return self.says("FAIL", value, f"The schedule {result.label} was measured worse{_gap(result)}.", remedy)
        return self.says(
            "WARNING", value, f"Whether {result.label} is as good as {wanted} cannot be told{_gap(result)}.", remedy
        )

    def _compared(self, calibration: Calibration, name: str) -> ScheduleResult | None:
        finding = find(calibration.findings, "schedules")
        results = () if finding is None else schedule_results(finding)
        return next((one for one in results if name in (one.name, one.label)), None)


def named_schedule(name: str) -> str:
    """Return the registered name of a schedule or a scheduler class, or the name itself.

    Examples
    --------
    >>> named_schedule("torch.optim.lr_scheduler.CosineAnnealingLR"), named_schedule("warmup-stable-decay")
    ('cosine', 'warmup-stable-decay')
    """
    last = name.rpartition(".")[2]
    plain = last.lower().replace("-", "_")
    return TORCH.get(last, plain if plain in SCHEDULES else last)


def _gap(result: ScheduleResult) -> str:
    one = result.difference
    loss = None if result.cell is None else result.cell.loss.value
    if one.value is None or one.lo is None or one.hi is None or not loss:
        return ""
    ends = f"{100 * one.confidence:g} % {percent(one.lo / abs(loss))} to {percent(one.hi / abs(loss))}"
    return f": {percent(one.value / abs(loss))} of the loss ({ends})"


RULES.register(Schedule.key)(Schedule())
