"""The setting for a training job, how sure it is, and what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final, get_args

from lrscale.errors import LrscaleError
from lrscale.recommend.companions import RecommendedCompanions
from lrscale.schedules import AbstractSchedule, build_schedule, is_pure, schedule_label
from lrscale.schedules.warmup import WarmupShape
from lrscale.study.finding import Check, Quantity

RECOMMENDATION_VERSION = 1
"""Schema version of recommendation.yaml."""

FILE_NAME = "recommendation.yaml"
"""Its name in a study folder."""

MODULE = "module"
"""Schedule name that stands for the schedulers that the module makes itself."""

Confidence = Literal["measured", "interpolated", "extrapolated", "cannot tell"]
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedSchedule:
    """The course of the LR over the horizon."""

    name: str
    """A registered schedule, or ``module`` for the module's own."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The schedule's own fields; what is absent has its default."""
    warmup_steps: int = 0
    """Steps of warm-up in front of it."""
    warmup_examples: int = 0
    """The same in examples."""
    warmup_shape: WarmupShape = "linear"
    """``linear`` or ``cosine``."""
    first_group_lr: float | None = None
    """LR that the first parameter group is made with; None: the peak LR. It differs where the module was told the peak
    LR and makes the group with a fraction of it, from which its own schedule climbs."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """What was measured; beyond it the recommendation is a forecast."""

    batch_sizes: tuple[int, int]
    """Smallest and largest global batch size whose best LR was located."""
    learning_rates: tuple[float, float]
    """Lowest and highest peak LR that trained to the end."""
    horizon_examples: int
    """Length of the trials."""
    diverges_above: float | None = None
    """Peak LR from which upwards training diverged; None when none did."""
    precision: str | None = None
    """The Trainer's precision in the trials; None when their config decides it."""
    optimizers: tuple[str, ...] = ()
    """Class names of the optimizers in the trials."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a recommendation stands on."""

    trials: int
    """Number of trials."""
    seeds: int
    """Number of distinct seeds."""
    devices: tuple[str, ...] = ()
    """What the trials ran on."""
    experiments: tuple[str, ...] = ()
    """The experiments whose findings were used."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another measured batch size, and what it would cost."""

    batch_size: int
    lr: float
    """Its best peak LR."""
    loss: float
    """Its loss at that LR."""
    relative_loss: float | None
    """Its loss against the recommended one's, minus 1: 0.004 is 0.4 % worse."""
    relative_seconds: float | None
    """Its training time against the recommended one's, minus 1; None where it was not measured."""


@final
@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to train with.

    Made by `lrscale.recommend.recommend`, kept in recommendation.yaml, applied by `lrscale.ApplyRecommendation`.

    Examples
    --------
    >>> recommendation = Recommendation.load("recommendation.yaml")  # doctest: +SKIP
    >>> optimizer.param_groups[0]["lr"] = recommendation.lr_at(step)  # doctest: +SKIP
    """

    schema_version: int = RECOMMENDATION_VERSION
    name: str
    """Name of the study."""
    created: str
    """Date and time, ISO 8601, UTC."""
    lrscale_version: str
    monitor: str
    """The logged value that the loss is."""
    lr: Quantity
    """Peak LR of the first parameter group of the first optimizer; the other groups keep their ratio to it."""
    equivalent_lr: tuple[float, float]
    """Range of peak LRs whose loss differs by less than the tolerance or the noise."""
    global_batch_size: int
    """Examples of one optimizer step."""
    per_device_batch_size: int
    """Examples of one forward on one device."""
    accumulate_grad_batches: int
    """Forwards per optimizer step on each device."""
    devices: int
    """Devices per node."""
    num_nodes: int
    schedule: RecommendedSchedule
    horizon_steps: int
    """Optimizer steps of the job."""
    horizon_examples: int
    """Examples that these steps see."""
    expected_loss: Quantity
    """Mean over seeds of the loss at the end, with its interval; one run lies beside it by its own seed. Its value is
    None where it was not measured."""
    expected_seconds: Quantity | None
    """Training time without validation; None where no speed was measured."""
    validity: Validity
    stands_on: Evidence
    confidence: Confidence
    reasons: tuple[str, ...]
    """Why this setting, in sentences."""
    companions: RecommendedCompanions | None = None
    """What moved with the batch size besides the LR in the trials; None where nothing did."""
    alternatives: tuple[Alternative, ...] = ()
    checks: tuple[Check, ...] = ()
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """What the trials' Trainer had that shapes training and stands in the recipe: precision, clipping of gradients,
    synchronised batch norms. Empty where the job's own config holds it."""
    batch_size_home: str | None = None
    """Where the trials set the per-device batch size, such as ``data.init_args.batch_size``; None where that is not
    known."""

    def __post_init__(self) -> None:
        if self.lr.value is None or not self.lr.value > 0:
            raise LrscaleError(f"a recommended LR must be positive, not {self.lr.value}")
        formed = self.per_device_batch_size * self.accumulate_grad_batches * self.devices * self.num_nodes
        if formed != self.global_batch_size:
            raise LrscaleError(
                f"global_batch_size {self.global_batch_size} is not {self.per_device_batch_size} per device x "
                f"{self.accumulate_grad_batches} x {self.devices} devices x {self.num_nodes} nodes = {formed}",
                hint="change them together",
            )
        if self.confidence not in CONFIDENCES:
            raise LrscaleError(f"unknown confidence {self.confidence}", hint=f"use one of {', '.join(CONFIDENCES)}")
        if self.horizon_steps < 1:
            raise LrscaleError(f"horizon_steps must be at least 1, not {self.horizon_steps}")

    @property
    def peak_lr(self) -> float:
        """The recommended peak LR as a number."""
        return float(self.lr.value or 0.0)

    @cached_property
    def built_schedule(self) -> AbstractSchedule:
        """The schedule, behind its warm-up.

        Raises
        ------
        LrscaleError
            When the study followed the module's own schedulers, whose shape lrscale does not know.
        """
        return self.schedule_for(self.horizon_steps)

    def schedule_for(self, horizon_steps: int) -> AbstractSchedule:
        """Return the schedule for a job of another length, its warm-up the same share of it.

        Parameters
        ----------
        horizon_steps : int
            Optimizer steps of the job, at least 1.
        """
        if self.schedule.name == MODULE:
            raise LrscaleError(
                "the study followed the module's own schedule, which only the module can compute",
                hint="keep the module's schedulers, with its LR set to lr",
            )
        if not is_pure(self.schedule.name):
            label = schedule_label(self.schedule.name, self.schedule.settings)
            raise LrscaleError(
                f"the course of {label} is known only while it runs",
                hint="build that scheduler in the job, on an optimizer whose LR is lr",
            )
        warmup = self.schedule.warmup_steps
        if horizon_steps != self.horizon_steps:
            warmup = round(warmup * horizon_steps / self.horizon_steps)
        return build_schedule(
            self.schedule.name,
            self.schedule.settings,
            warmup_steps=warmup,
            warmup_shape=self.schedule.warmup_shape,
        )

    def lr_factor(self, step: int) -> float:
        """Return the multiplier of the peak LR at an optimizer step, counted from 0.

        Steps from the horizon on have the factor of its last step.
        """
        return self.built_schedule.factor(min(max(step, 0), self.horizon_steps - 1), self.horizon_steps)

    def lr_at(self, step: int) -> float:
        """Return the LR of the reference group at an optimizer step, counted from 0."""
        return self.peak_lr * self.lr_factor(step)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        from lrscale.recommend.plain import to_plain

        return to_plain(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recommendation:
        """Read what `to_dict` wrote.

        Raises
        ------
        LrscaleError
            For a newer version, and for fields that are absent, unknown or of another kind.
        """
        from lrscale.recommend.plain import from_plain

        return from_plain(plain)

    def save(self, path: str | Path) -> None:
        """Write recommendation.yaml; `load` gives back an equal recommendation, to the last digit."""
        from lrscale.recommend.plain import write

        write(self, Path(path))

    @classmethod
    def load(cls, source: str | Path) -> Recommendation:
        """Read a recommendation.

        Parameters
        ----------
        source : str or Path
            recommendation.yaml, or the study folder that holds it.

        Raises
        ------
        LrscaleError
            When there is none, or when it is damaged, naming the field.
        """
        from lrscale.recommend.plain import read

        return read(Path(source))

    def lightning_cli_fragment(self, path: str = FILE_NAME) -> str:
        """Return a LightningCLI config to put behind one's own: ``--config mine.yaml --config this.yaml``."""
        from lrscale.recommend.exports import lightning_cli_fragment

        return lightning_cli_fragment(self, path)

    def markdown(self) -> str:
        """Return a summary for a pull request or a chat."""
        from lrscale.recommend.exports import markdown

        return markdown(self)

    def loop_snippet(self, path: str = FILE_NAME) -> str:
        """Return Python lines that apply it in a training loop without Lightning."""
        from lrscale.recommend.exports import loop_snippet

        return loop_snippet(self, path)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing is recommended, and what it would take."""

    sentence: str
    needs: str
    """What to run, with its command where there is one."""

    def __str__(self) -> str:
        return f"{self.sentence} {self.needs}".strip()
