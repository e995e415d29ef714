"""What determines the result of a trial."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from lrscale.batch_schedules import BatchCourse, batch_schedule_label, build_batch_schedule
from lrscale.errors import LrscaleError, StudyError
from lrscale.schedules import SCHEDULER, SCHEDULES, AbstractSchedule, build_schedule, is_pure, schedule_label
from lrscale.schedules.warmup import WarmupShape
from lrscale.units import Layout

SPEC_VERSION = 1
"""Schema version of spec.json."""
_UNLESS_DEFAULT = (
    "instruments",
    "companions",
    "optimizer",
    "start",
    "validation_follows",
    "stopper",
    "batch_schedule",
    "branch",
    "other_optimizer",
)
"""Fields that a spec names only where they are set, so that a field added to this list leaves the ids of other trials
as they are."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """A schedule by name, with its settings and warm-up.

    Examples
    --------
    >>> ScheduleSpec(name="cosine", warmup_steps=10).label
    'cosine'
    """

    name: str
    """A name registered in `lrscale.schedules`, or ``"module"`` for the module's own schedulers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The schedule's own fields; what is absent has its default."""
    warmup_steps: int = 0
    """Steps of warm-up, at least 0."""
    warmup_shape: WarmupShape = "linear"
    """``linear`` or ``cosine``."""

    @property
    def label(self) -> str:
        """The name, and the settings that differ from the defaults."""
        return schedule_label(self.name, self.settings)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScheduleSpec:
    """A batch-size schedule by name, with its settings.

    Examples
    --------
    >>> BatchScheduleSpec(name="doubling").label
    'doubling'
    """

    name: str
    """A name registered in `lrscale.batch_schedules`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The schedule's own fields; what is absent has its default."""

    @property
    def label(self) -> str:
        """The name, and the settings that differ from the defaults."""
        return batch_schedule_label(self.name, self.settings)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPoint:
    """Where a trial goes on from another: its weights, optimizer state, place in the data and random states."""

    trial_id: str
    """The trial that it goes on from, of the same study, task and first batch size."""
    position: int
    """Base steps done there, at least 1: optimizer steps, where the batch does not grow."""

    def __post_init__(self) -> None:
        if self.position < 1:
            raise LrscaleError(f"a branch begins after 1 base step at the least, not after {self.position}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StartState:
    """The Lightning checkpoint whose weights and optimizer state a trial begins with.

    Its content decides the result and so the trial's id; where it lies does not.
    """

    path: str
    """Where it lies, relative to the recipe's folder."""
    sha256: str
    """SHA-256 of the file, 64 hexadecimal digits."""


class _Named:
    """A place for the id, which is asked for all the time and takes a while to compute."""

    __slots__ = ("_trial_id",)
    _trial_id: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec(_Named):
    """One training run, described by everything that its result depends on, and by nothing else.

    Where a trial runs is not part of it, unless `layout` is pinned, as throughput trials do.

    Examples
    --------
    >>> spec = TrialSpec(
    ...     task={"model": {"class_path": "m.Net"}}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1,
    ...     global_batch_size=32, horizon=100, seed=0,
    ... )
    >>> spec == TrialSpec.from_dict(spec.to_dict()), len(spec.trial_id)
    (True, 16)
    """

    task: Mapping[str, Any]
    """The task's resolved keys: model, data, trainer, config, cli, factory, and where things live. JSON values."""
    schedule: ScheduleSpec
    """Shape of the LR over the horizon."""
    peak_lr: float
    """LR of the reference parameter group at factor 1, positive."""
    global_batch_size: int
    """Examples of one optimizer step, at least 1; of the first one, where the batch grows."""
    horizon: int
    """Base steps, at least 1: runs of as many examples as the first batch has, which are the optimizer steps where the
    batch does not grow. Of a branch, counted from the beginning of the trial that it goes on from."""
    seed: int
    """Seed of initialisation and of the order of examples, at least 0."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys of the task that this trial sets otherwise."""
    validate_every: int | None = 0
    """Steps between validations, besides the one at the end; 0 validates at the end only, None never."""
    stop_on_divergence: bool = True
    """Whether a trial whose loss has left for good ends early."""
    layout: Layout | None = None
    """Pinned for trials that measure a layout; None elsewhere, where the layout does not matter."""
    instruments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the trial is there to measure: name in `lrscale.training.instruments.INSTRUMENTS` -> its settings."""
    companions: Mapping[str, Any] = field(default_factory=dict)
    """What moves with the batch size besides the LR: ``policy``, a name in `lrscale.companions`, and
    ``reference_batch_size``, at which the module's own settings hold. Empty: nothing."""
    optimizer: int | None = None
    """Number of the optimizer whose groups follow the schedule, counted from 0, while the others keep the LR that they
    were built with; None for all. The peak LR is then that of its first group."""
    start: StartState | None = None
    """What the trial begins from; None for a fresh module."""
    validation_follows: bool = False
    """Whether validation batches are as large as the training's wherever the task's own are, as in the job itself.
    Elsewhere they keep the task's own size, so that the losses of all batch sizes compare."""
    stopper: Mapping[str, Any] = field(default_factory=dict)
    """What may end the trial before its horizon besides divergence: ``name`` of the rule and its ``bounds``, each with
    ``step``, ``loss`` and ``among`` (`lrscale.stoppers`). Without bounds the decision is made elsewhere. Empty: nothing
    may, so that such a trial answers any question, and a trial that may be stopped never passes for it."""
    batch_schedule: BatchScheduleSpec | None = None
    """How the batch grows; None: it does not."""
    branch: BranchPoint | None = None
    """The trial that this one goes on from, and where; None for one that begins at its beginning. A branch with the
    seed of that trial sees the examples that come next there; with another one it sees that seed's order from the same
    place on."""

    other_optimizer: Mapping[str, Any] = field(default_factory=dict)
    """The optimizer that takes the place of the module's own, over the same parameter groups: ``name`` and
    ``settings``, as `lrscale.recipe.OptimizerChoice` has them. Empty: the module's own."""

    def __post_init__(self) -> None:
        if not self.peak_lr > 0:
            raise LrscaleError(f"a peak LR must be positive, not {self.peak_lr}")
        for name, least in (
            ("global_batch_size", 1),
            ("horizon", 1),
            ("seed", 0),
            ("validate_every", 0),
            ("optimizer", 0),
        ):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise LrscaleError(f"{name} must be at least {least}, not {getattr(self, name)}")

        if self.branch is not None and self.branch.position >= self.horizon:
            raise LrscaleError(f"a trial of {self.horizon} base steps cannot branch off after {self.branch.position}")
        own = self.schedule.name in SCHEDULES or self.schedule.name in ("module", SCHEDULER)
        if own and not is_pure(self.schedule.name) and (self.branch is not None or self.batch_schedule is not None):
            raise LrscaleError(
                f"schedule {self.schedule.name} has a course of its own: it can neither branch off nor follow a batch "
                "schedule",
                hint="name a schedule of lrscale's",
            )

    @property
    def examples(self) -> int:
        """Training examples that the weights have seen when the trial has run to its horizon."""
        return self.horizon * self.global_batch_size

    @property
    def own_examples(self) -> int:
        """Those of them that the trial sees itself: a branch does not see again what came before it."""
        return self.examples - (0 if self.branch is None else self.branch.position * self.global_batch_size)

    @property
    def label(self) -> str:
        """What people read for it: its schedule, behind the optimizer where that is not the module's own.

        Examples
        --------
        >>> lion = {"name": "lion", "settings": {}}
        >>> TrialSpec(task={}, schedule=ScheduleSpec(name="cosine"), peak_lr=0.1, global_batch_size=1, horizon=1,
        ...           seed=0, other_optimizer=lion).label
        'lion + cosine'
        """
        if not self.other_optimizer:
            return self.schedule.label
        name, settings = str(self.other_optimizer["name"]), self.other_optimizer.get("settings") or {}
        # A class is named alike, be it that of a scheduler or of an optimizer.
        return f"{schedule_label(SCHEDULER if name == 'class' else name, settings)} + {self.schedule.label}"

    @property
    def lr_schedule(self) -> AbstractSchedule | None:
        """The LR schedule over base steps, without what a batch schedule adds; None for schedulers of torch's kind."""
        own = self.schedule
        if own.name in ("module", SCHEDULER):
            return None
        return build_schedule(own.name, own.settings, warmup_steps=own.warmup_steps, warmup_shape=own.warmup_shape)

    @property
    def course(self) -> BatchCourse:
        """The optimizer steps that the trial makes."""
        batches = self.batch_schedule
        built = None if batches is None else build_batch_schedule(batches.name, batches.settings)
        start = 0 if self.branch is None else self.branch.position
        return BatchCourse.of(built, self.lr_schedule if batches is not None else None, self.horizon, start)

    @property
    def trial_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the spec."""
        try:
            return self._trial_id
        except AttributeError:
            object.__setattr__(self, "_trial_id", self._hash())
            return self._trial_id

    def _hash(self) -> str:
        plain = self.to_dict()
        if self.start is not None:
            plain["start"] = self.start.sha256
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        plain = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        plain["schedule"] = dataclasses.asdict(self.schedule)
        if self.schedule.warmup_shape == "linear":
            del plain["schedule"]["warmup_shape"]
        plain["layout"] = None if self.layout is None else dataclasses.asdict(self.layout)
        plain["task"], plain["overrides"] = dict(self.task), dict(self.overrides)
        plain["instruments"] = {name: dict(settings) for name, settings in self.instruments.items()}
        plain["companions"] = dict(self.companions)
        plain["stopper"] = dict(self.stopper)
        plain["other_optimizer"] = dict(self.other_optimizer)
        for name in ("start", "batch_schedule", "branch"):
            value = getattr(self, name)
            plain[name] = None if value is None else dataclasses.asdict(value)
        for name in _UNLESS_DEFAULT:
            # Number 0 of an optimizer is set, and is no False.
            if plain[name] is None or plain[name] is False or plain[name] == {}:
                del plain[name]
        return {"spec_version": SPEC_VERSION, **plain}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrialSpec:
        """Read what `to_dict` wrote.

        Raises
        ------
        StudyError
            For a spec of a newer version.
        """
        values = dict(plain)
        version = values.pop("spec_version")
        if version > SPEC_VERSION:
            raise StudyError(
                f"spec version {version} is newer than {SPEC_VERSION}, the newest this lrscale reads",
                hint="upgrade lrscale",
            )
        values["schedule"] = ScheduleSpec(**values["schedule"])
        values["layout"] = None if values["layout"] is None else Layout(**values["layout"])
        if values.get("start") is not None:
            values["start"] = StartState(**values["start"])
        if values.get("batch_schedule") is not None:
            values["batch_schedule"] = BatchScheduleSpec(**values["batch_schedule"])
        if values.get("branch") is not None:
            values["branch"] = BranchPoint(**values["branch"])
        return cls(**values)
