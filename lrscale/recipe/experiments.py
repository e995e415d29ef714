"""What is asked: the recipe's `experiments` and `target`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from lrscale.companions import COMPANIONS
from lrscale.errors import did_you_mean
from lrscale.recipe.batch_schedules import OneComparedSchedule
from lrscale.recipe.branches import CriticalBatch, GrowingBatch, Horizons, require_own_sizes
from lrscale.recipe.choices import (
    OneSchedule,
    ScheduleChoice,
    listed,
    listed_text,
    long_comparison,
    long_schedule,
    long_switch,
)
from lrscale.recipe.engines import PrunerChoice
from lrscale.recipe.factors import Factors, long_factors
from lrscale.recipe.fields import (
    Count,
    LearningRate,
    Length,
    MemorySize,
    NonNegative,
    Objective,
    Real,
    distinct,
    refuse,
    require_countable,
    require_same_data,
    shown,
)
from lrscale.recipe.forecast import Forecast
from lrscale.recipe.optimizers import OneOptimizer, OptimizerChoice
from lrscale.recipe.search import Search
from lrscale.recipe.task import Section
from lrscale.recipe.variants import require_task_paths

NO_COMPANIONS = "none"
"""Policy under which nothing but the LR moves with the batch size."""

VALIDATION = "validation"
"""Name that stands for the loss that trials are compared by."""
MIN_RUNGS = 15
"""Fewest points of a curve that says something."""


class Confirm(Section):
    """Short runs at fixed LR around what a range test suggests; a ramp alone does not rank LRs."""

    steps: Count | None = None
    """Optimizer steps of a run. Default: those of a ramp, or a quarter of the horizon of `scaling` if that is more."""
    seeds: Count = 2
    """Most seed replicates at the best LR and its neighbours; more than two only while the runs do not decide."""
    warmup_fraction: Annotated[Real, Field(ge=0, lt=1)] = 0.05
    """Share of a run spent in linear warm-up, in [0, 1)."""
    max_runs: Annotated[Count, Field(ge=4)] = 20
    """Most runs at one batch size, at least 4."""
    edge: bool = True
    """Whether the largest stable LR is looked for, from where the ramps became unstable."""


class RangeTest(Section):
    """Ramp the LR until training diverges, then confirm: the cheap first answer."""

    seeds: Count = 3
    """Ramps, each with its own seed."""
    steps: Annotated[Count, Field(ge=2)] = 100
    """Optimizer steps of one ramp, at least 2; for a staircase a multiple of `hold`."""
    lr_min: LearningRate = 1e-7
    """LR of the first step."""
    lr_max: LearningRate = 10.0
    """LR of the last step."""
    hold: Count = 1
    """Steps spent at each LR; above 1 the ramp is a staircase, and the last half of each rung counts."""
    batch_size: Count | None = None
    """Global batch size. Default: the middle one of `scaling`."""
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Several global batch sizes, ramped and confirmed one by one, instead of `batch_size`."""
    monitor: Annotated[str, Field(min_length=1)] | None = None
    """What is drawn against the LR: a value that validation logs, smaller being better, or ``validation`` for the one
    that trials are compared by. It is validated after every rung. Default: the training loss."""
    checkpoint: Annotated[str, Field(min_length=1)] | None = None
    """Lightning checkpoint whose weights and optimizer state every ramp and run begins with, relative to the recipe.
    Default: a fresh module."""
    optimizer: NonNegative | None = None
    """Number of the only optimizer that is ramped, counted from 0, while the others keep their own LR. Default: all of
    them, at the ratios that they were built with."""
    confirm: Annotated[Confirm | None, BeforeValidator(long_switch)] = Field(default_factory=Confirm)
    """Short runs at fixed LR that decide; ``false`` leaves the suggestions untested."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.lr_min < self.lr_max:
            refuse(f"must have lr_min below lr_max, not {self.lr_min:g} and {self.lr_max:g}")
        if self.hold * 2 > self.steps:
            refuse(f"holds each LR for {self.hold} of {self.steps} steps, so that it never rises", hint="lower hold")
        if self.steps % self.hold:
            steps = self.hold * -(-self.steps // self.hold)
            refuse(f"has {self.steps} steps, no multiple of hold {self.hold}", hint=f"use {steps} steps")
        if self.hold > 1 and self.steps // self.hold < MIN_RUNGS:
            refuse(
                f"has {self.steps // self.hold} LRs of {self.hold} steps each, and a curve needs {MIN_RUNGS}",
                hint=f"raise steps to {MIN_RUNGS * self.hold}",
            )
        if self.batch_size is not None and self.batch_sizes is not None:
            refuse("has both batch_size and batch_sizes", hint="keep one of them")
        distinct(self.batch_sizes or ())
        return self


class Scaling(Section):
    """The best LR at each global batch size, at a fixed number of examples."""

    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Global batch sizes that are compared."""
    horizon: Length
    """Length of every trial, such as ``40k examples``: all batch sizes see the same data."""
    schedule: OneSchedule = Field(default_factory=lambda: ScheduleChoice(name="cosine"))
    """Schedule of every trial, by name or as ``{name, settings}``."""
    warmup_fraction: Annotated[Real, Field(ge=0, lt=1)] = 0.05
    """Share of the horizon spent in linear warm-up, in [0, 1)."""
    seeds: Count = 3
    """Seed replicates of every setting."""
    learning_rates: Annotated[tuple[LearningRate, ...], Field(min_length=1)] | None = None
    """Peak LRs to try. Default: around the bracket of the range test."""
    stopper: Annotated[PrunerChoice, BeforeValidator(long_schedule)] = Field(default_factory=PrunerChoice)
    """The rule by which trials of `learning_rates` end early, by name or as ``{name, settings}``, such as
    ``survivors``. The first replicate of every LR trains to its horizon all the same. Default: ``none``."""
    ratio: Annotated[Real, Field(gt=1)] = 2.0
    """Ratio of neighbouring LRs, above 1."""
    max_learning_rates: Annotated[Count, Field(ge=3)] = 12
    """Most LRs tried at one batch size, at least 3."""
    validations: Count = 10
    """Validations over the horizon."""
    companions: Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)] = (NO_COMPANIONS,)
    """What moves with the batch size besides the LR: ``none``, ``sde`` or ``half-life``. Of several, the first holds
    in every trial, and the slices are repeated under the others to compare them."""
    reference_batch_size: Count | None = None
    """Global batch size at which the module's own betas, eps and weight decay hold; the companions move from there."""

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        distinct(self.batch_sizes)
        distinct(self.companions)
        for policy in self.companions:
            if policy not in COMPANIONS:
                refuse(f"names the unknown companions {shown(policy)}", hint=did_you_mean(policy, COMPANIONS))
        if set(self.companions) != {NO_COMPANIONS} and self.reference_batch_size is None:
            refuse(
                f"moves the companions by {listed_text(self.companions)} and does not say from where",
                hint="set reference_batch_size to the batch size at which the module's own betas and weight decay hold",
            )
        distinct(self.learning_rates or ())
        if self.stopper.stopper() is not None and self.learning_rates is None:
            refuse(
                f"ends trials by {self.stopper.name}, and searches its LRs, few of which lie far from the best",
                hint="give learning_rates, or remove stopper",
            )
        require_same_data(self.horizon, self.batch_sizes)
        return self


class ScheduleComparison(Section):
    """The same number of examples under each schedule, each at its own best LR."""

    schedules: Annotated[tuple[OneComparedSchedule, ...], Field(min_length=1)]
    """Schedules, by name or as ``{name, settings}``; a scheduler of torch or of your own as ``{class_path, init_args,
    interval}``. With ``batch_schedule`` the batch grows beside."""
    optimizers: Annotated[tuple[OneOptimizer, ...], Field(min_length=1)] = Field(
        default_factory=lambda: (OptimizerChoice(name="module"),)
    )
    """Optimizers that every schedule is tried with: ``module`` for the module's own, ``sgd``, ``adam``, ``adamw``,
    ``lion``, ``muon``, ``schedule_free_sgd``, ``schedule_free_adamw``, ``{name, settings}``, or ``{class_path,
    init_args}``. Each is tuned at its own LR; those without a schedule train at a constant one."""
    batch_size: Count | None = None
    """Global batch size. Default: the best one of `scaling`."""
    horizon: Length | None = None
    """Length of every trial. Default: that of `scaling`."""
    seeds: Count = 3
    """Seed replicates of every setting."""
    margin: Annotated[Real, Field(ge=0, lt=1)] = 0.005
    """Relative difference of the loss that counts as equal, in [0, 1)."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        distinct([choice.label for choice in self.schedules])
        distinct([choice.label for choice in self.optimizers])
        require_countable(self.horizon)
        return self


class NoiseScale(Section):
    """The gradient noise scale along training: of the trials that are there, and of its own where those do not tell.

    Trials of its own run where `batch_sizes`, `learning_rate` or `horizon` says what to train, and at the batch sizes
    where the other experiments' trials give no number.
    """

    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Global batch sizes to measure at. Default: the middle one of `scaling`, or that of the range test."""
    learning_rate: LearningRate | None = None
    """Peak LR. Default: the best one of `scaling` at that batch size, else the middle of the range test's bracket."""
    horizon: Length | None = None
    """Length of a trial of its own. Default: that of `scaling`, else 400 steps."""
    schedule: OneSchedule = Field(default_factory=lambda: ScheduleChoice(name="constant"))
    """Schedule of a trial of its own. The noise scale moves with the LR, and a constant one keeps that apart."""
    seeds: Count = 2
    """Seed replicates of a trial of its own."""
    precision: Annotated[Real, Field(gt=0, lt=1)] = 0.1
    """Relative standard error to name the necessary steps for, in (0, 1)."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        distinct(self.batch_sizes or ())
        require_countable(self.horizon)
        return self


class Throughput(Section):
    """Examples a second for each way to split a batch over the devices."""

    devices: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Device counts to try. Default: powers of two up to the layout's, and the layout's."""
    per_device_batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Per-device batch sizes to try. Default: a few, a factor of four apart, up to the layout's bound."""
    steps: Annotated[Count, Field(ge=2)] = 30
    """Optimizer steps of one measurement, at least 2."""
    repeats: Count = 1
    """Trials of each layout. Between several of them it shows what the machine itself varies by."""
    knee: Annotated[Real, Field(gt=0, le=1)] = 0.9
    """Share of the largest speed from which on a larger per-device batch is not worth it, in (0, 1]."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        distinct(self.devices or ())
        distinct(self.per_device_batch_sizes or ())
        return self


class Memory(Section):
    """The largest per-device batch that trains and validates, on the devices of `layout`."""

    start: Count = 4
    """First per-device batch size tried."""
    margin: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    """Share of the memory that stays free, in [0, 1)."""
    limit: MemorySize | None = None
    """Memory that a rank may use, such as ``4GiB``. Default: a GPU's own; on CPU a rank's share of what is free."""
    steps: Annotated[Count, Field(ge=2)] = 3
    """Optimizer steps of one probe, at least 2: the optimizer's state exists from the second step on."""


class Equivalence(Section):
    """Whether devices and accumulation change what a step computes, and why."""

    batch_size: Count | None = None
    """Global batch size. Default: the smallest of `scaling`, at most 32 and what one device may hold."""
    steps: Count = 3
    """Optimizer steps that are compared."""


class Rules(Section):
    """Rules of thumb, judged by the trials of the other experiments; none is trained for them."""

    margin: Annotated[Real, Field(ge=0, lt=1)] = 0.005
    """Relative difference of a loss that counts as none, in [0, 1)."""


class Experiments(Section):
    """Which questions are asked. ``null`` or ``false`` turns one off, ``{}`` takes its defaults.

    Examples
    --------
    >>> Experiments.model_validate({"range_test": False, "throughput": {}}).throughput.steps
    30
    """

    range_test: Annotated[RangeTest | None, BeforeValidator(long_switch)] = Field(default_factory=RangeTest)
    """Ramps of the LR; on by default."""
    scaling: Annotated[Scaling | None, BeforeValidator(long_switch)] = None
    """LR against batch size."""
    schedules: Annotated[
        ScheduleComparison | None, BeforeValidator(lambda value: long_comparison(long_switch(value)))
    ] = None
    """Comparison of schedules; a list of schedules is short for ``{schedules: [...]}``."""
    search: Annotated[Search | None, BeforeValidator(long_switch)] = None
    """The best LR and batch size from few trials, one planned after the other."""
    forecast: Annotated[Forecast | None, BeforeValidator(long_switch)] = None
    """LR and batch size over model sizes and horizons, carried to the target."""
    factors: Annotated[Factors | None, BeforeValidator(lambda value: long_factors(long_switch(value)))] = None
    """Any entries of the task, crossed with the LR one by one, such as ``{width: [64, 128, 256]}``."""
    horizons: Annotated[Horizons | None, BeforeValidator(long_switch)] = None
    """LR and loss against the length of training, from trunks with cooldowns."""
    growing_batch: Annotated[GrowingBatch | None, BeforeValidator(long_switch)] = None
    """A batch that grows against an LR that decays."""
    critical_batch: Annotated[CriticalBatch | None, BeforeValidator(long_switch)] = None
    """The largest batch that costs no more examples, from branches."""
    noise_scale: Annotated[NoiseScale | None, BeforeValidator(long_switch)] = None
    """Gradient noise scale over training."""
    throughput: Annotated[Throughput | None, BeforeValidator(long_switch)] = None
    """Speed of the layouts."""
    memory: Annotated[Memory | None, BeforeValidator(long_switch)] = None
    """Largest per-device batch."""
    equivalence: Annotated[Equivalence | None, BeforeValidator(long_switch)] = Field(default_factory=Equivalence)
    """Layout check; on by default."""
    rules: Annotated[Rules | None, BeforeValidator(long_switch)] = None
    """Rules of thumb, judged on this model without a trial of their own."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # What is on by default because it goes with anything is no question by itself, nor what only reads the others.
        questions = [name for name in Experiments.model_fields if name != "rules"]
        own = [name for name in questions if name != "equivalence" or name in self.model_fields_set]
        asked = [name for name in own if getattr(self, name) is not None]
        if not asked:
            refuse("are all turned off", hint=f"turn on one of {', '.join(questions)}")
        if self.schedules is not None and self.scaling is None:
            for name in ("batch_size", "horizon"):
                if getattr(self.schedules, name) is None:
                    refuse(f"need schedules.{name} while scaling is off", hint=f"set experiments.schedules.{name}")
        if self.growing_batch is not None:
            growing = self.growing_batch
            require_own_sizes("growing_batch", growing.batch_size, growing.horizon, scaling=self.scaling is not None)
        # What an experiment takes from `scaling` where it does not say itself.
        taken = {
            "search": ("batch_sizes", "horizon"),
            "forecast": ("horizons", "batch_sizes"),
            "factors": ("batch_size", "horizon"),
        }
        for experiment, names in taken.items():
            section = getattr(self, experiment)
            for name in names if section is not None and self.scaling is None else ():
                if getattr(section, name) is None:
                    refuse(
                        f"need {experiment}.{name} while scaling is off", hint=f"set experiments.{experiment}.{name}"
                    )
        return self


class Target(Section):
    """The training job that the recommendation is for."""

    batch_size: Count | None = None
    """Global batch size of the job. Default: recommended."""
    horizon: Length | None = None
    """Length of the job. Default: the length that was calibrated."""
    params: Annotated[Real, Field(gt=0)] | None = None
    """Parameters of the job's model, counted like those of the task, for a forecast. Default: no forecast."""
    factors: Mapping[str, Any] | None = None
    """Entries of the task that the job's module has, such as ``{task.model.init_args.width: 1024}``, in place of
    `params`: its parameters are counted by building it, without training. Default: none."""
    loss: Real | None = None
    """Loss that the job must reach. With it the objectives besides ``loss`` ask for the best way there; the trials of
    `scaling` must then follow a constant schedule. Default: one that the trials reach."""
    objective: Objective = "loss"
    """What is best: the lowest ``loss`` at equal examples; the shortest ``time`` to `loss`, or without one among losses
    within `tolerance` at equal examples; the least ``cost`` in device-hours, likewise, on fewer of the devices too
    where `throughput` timed them; or the least sum of the examples to `loss` and of its time at `time_price`."""
    time_price: Annotated[Real, Field(gt=0)] | None = None
    """Examples that a second of training is worth, for the objective ``time_price``."""
    tolerance: Annotated[Real, Field(ge=0, lt=1)] = 0.001
    """Relative difference of the loss that does not matter, in [0, 1)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require_countable(self.horizon)
        if self.factors is not None:
            if self.params is not None:
                refuse("has params and factors, which both say how large the model is", hint="keep one of them")
            require_task_paths(self.factors)
        if (self.objective == "time_price") != (self.time_price is not None):
            if self.time_price is None:
                refuse("has objective time_price and no time_price", hint="set time_price, in examples a second")
            refuse(f"has a time_price and objective {self.objective}", hint="set objective: time_price")
        return self
