"""One trial on one rank, from spec to result."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from lrscale.batch_schedules import BatchCourse, GrownLR, build_batch_schedule
from lrscale.errors import LrscaleError, TaskError
from lrscale.laws.step_time import mean_of_series
from lrscale.schedules import SCHEDULER, AbstractSchedule, is_pure
from lrscale.stoppers import LossWatch
from lrscale.store import STOPPER, TrialSpec
from lrscale.training.branch import Branch
from lrscale.training.build import build_task
from lrscale.training.built import BuiltTask
from lrscale.training.companion_control import CompanionControl
from lrscale.training.course_batches import StepLayouts
from lrscale.training.course_hooks import CourseHooks
from lrscale.training.data_control import DataControl
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.environment import describe_environment
from lrscale.training.failure import describe_failure
from lrscale.training.hooks import TrialHooks, make_callback, prepare_module
from lrscale.training.instruments import make_instruments
from lrscale.training.keep_state import StateKeeper
from lrscale.training.lr_control import LRControl
from lrscale.training.optimizers import replace_optimizer
from lrscale.training.ray_strategy import on_ray
from lrscale.training.recorder import MOST_STEPS_A_FLUSH, Recorder
from lrscale.training.seeding import seed_hooks
from lrscale.training.start_state import StartLoader
from lrscale.training.step_counts import StepCounts
from lrscale.training.stop import TrialStopped
from lrscale.training.trainer_setup import trainer_arguments
from lrscale.training.user_scheduler import UserScheduler
from lrscale.units import Layout

UNMEASURED_STEPS = 3
"""First steps left out of the step times: allocation, autotuning and the data loader's start."""
RAMP_PATIENCE = 3
"""A range test ends soon after the loss has left: each further rung would only be worse."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a rank is asked to do, as the launcher wrote it."""

    spec: TrialSpec
    layout: Layout
    folder: Path
    root: Path
    import_paths: tuple[str, ...]
    accelerator: str
    rank: int
    purpose: str = "train"
    instruments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those that ride on the trial besides the ones of its spec: name -> settings."""
    keep: tuple[int, ...] = ()
    """Base steps after which the state is kept for trials that branch off there."""
    calibrated: Mapping[str, Any] | None = None
    """Of a look that only counts the parameters of another version of the task (`training.target_size`)."""
    process_group: str = "launcher"
    """Who has made the ranks' process group and tells Lightning their numbers: ``"launcher"`` or ``"ray"``."""

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], rank: int) -> Job:
        """Read a launcher's job file."""
        return cls(
            spec=TrialSpec.from_dict(plain["spec"]),
            layout=Layout(**plain["layout"]),
            folder=Path(plain["folder"]),
            root=Path(plain["root"]),
            import_paths=tuple(plain["import_paths"]),
            accelerator=plain["accelerator"],
            rank=rank,
            purpose=plain["purpose"],
            instruments=plain.get("instruments", {}),
            keep=tuple(plain.get("keep", ())),
            calibrated=plain.get("calibrated"),
            process_group=plain.get("process_group", "launcher"),
        )


@final
@dataclass(slots=True, kw_only=True)
class Course:
    """The parts of a trial that is under way, and how it ended on this rank."""

    job: Job
    built: BuiltTask
    data: DataControl
    watch: DivergenceWatch
    recorder: Recorder
    hooks: TrialHooks
    counts: StepCounts
    instruments: Mapping[str, Any] = field(default_factory=dict)
    status: str = "completed"
    reason: str | None = None
    failed_at: float | None = None
    """When an exception ended the trial on this rank alone, in seconds since the epoch."""
    retryable: bool = False
    notes: list[str] = field(default_factory=list)


@contextmanager
def scratch_folder(job: Job) -> Iterator[Path]:
    """Make a folder for what Lightning and the module want to write; it lies in the trial's and goes with this rank."""
    scratch = job.folder / f"scratch-{job.rank}"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def build(job: Job, scratch: Path) -> tuple[BuiltTask, DataControl]:
    """Build the module and its data, fresh and seeded, and re-form the loaders."""
    for path in job.import_paths:
        folder = str((job.root / path).resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)
    built = build_task(
        _task(job.spec),
        overrides=job.spec.overrides,
        peak_lr=job.spec.peak_lr,
        per_device_batch_size=job.layout.per_device_batch_size,
        seed=job.spec.seed,
        root=job.root,
        scratch=scratch,
    )
    if not built.module.automatic_optimization and job.layout.accumulate > 1:
        raise TaskError(
            f"{type(built.module).__name__} steps its optimizers itself, so its batch cannot be accumulated "
            f"over {job.layout.accumulate} forwards",
            hint="raise layout.max_per_device_batch_size or layout.devices, or use smaller batch sizes",
        )
    spec = job.spec
    data = DataControl(
        built,
        job.layout,
        job.rank,
        spec.seed,
        validation_follows=spec.validation_follows,
        course=spec.course if _has_course(spec) else None,
        base=spec.global_batch_size,
    )
    data.install()
    holds_data = built.datamodule is None and built.train_loader is None
    seed_hooks(built.module, built.datamodule, job.spec.seed, module_holds_data=holds_data)
    return built, data


def _has_course(spec: TrialSpec) -> bool:
    return spec.batch_schedule is not None or spec.branch is not None


def _task(spec: TrialSpec) -> Mapping[str, Any]:
    if spec.optimizer is None:
        return spec.task
    if spec.task.get("factory"):
        raise TaskError(
            "a factory is handed one LR for all its optimizers, so the others cannot keep their own",
            hint="name the module's class in task.model, or leave experiments.range_test.optimizer out",
        )
    # The place that is told the peak LR may feed several optimizers, of which only one is led.
    return {**spec.task, "lr": None}


def run_trial(job: Job, submitted: float) -> dict[str, Any]:
    """Train as the spec says and return the outcome of this rank, for the launcher to read.

    Parameters
    ----------
    job : Job
        The trial and this rank.
    submitted : float
        Seconds since the epoch when this rank began.

    Returns
    -------
    dict
        ``kind`` is ``"result"`` where all ranks agree on how it ended, and ``"failure"``, with the time ``at`` which,
        where an exception ended it on this rank; ``fields`` are those of the record.

    Raises
    ------
    TaskError
        When the task cannot be built or does not fit the trial, which no other trial would change.
    """
    with scratch_folder(job) as scratch:
        built, data = build(job, scratch)
        course = _begin(job, built, data)
        recorder = course.recorder
        try:
            try:
                _fit(course, scratch)
            finally:
                recorder.close()
        except TrialStopped as stopped:
            course.status, course.reason = stopped.status, stopped.reason
        except LrscaleError:
            raise
        except Exception as error:  # whatever a stranger's module raises is an outcome of this trial
            course.failed_at = time.time()
            traceback.print_exc()
            failure = describe_failure(
                error,
                module=built.module,
                hooks=course.hooks,
                recorder=recorder,
                watch=course.watch,
                ranks=job.layout.world_size,
            )
            course.status, course.reason, course.retryable = failure.status, failure.reason, failure.retryable
        return _outcome(course, submitted)


def _require_pure(spec: TrialSpec) -> None:
    if spec.schedule.name != "module" and not is_pure(spec.schedule.name) and (spec.branch or spec.batch_schedule):
        kind = "branch" if spec.branch else "trial with a growing batch"
        raise TaskError(
            f"{spec.schedule.label} has a state of its own, which a {kind} cannot take up",
            hint="use a schedule that is a function of the position",
        )


def _begin(job: Job, built: BuiltTask, data: DataControl) -> Course:
    spec, layout = job.spec, job.layout
    ramp, course = spec.schedule.name == "ramp", spec.course
    _require_pure(spec)
    schedule: AbstractSchedule | UserScheduler | None = spec.lr_schedule
    if isinstance(schedule, AbstractSchedule) and spec.batch_schedule is not None:
        batches = build_batch_schedule(spec.batch_schedule.name, spec.batch_schedule.settings)
        schedule = GrownLR(schedule, course, batches.lr_power)
    if spec.schedule.name == SCHEDULER:
        schedule = UserScheduler(spec.schedule.settings, spec.horizon, spec.schedule)
    watch = DivergenceWatch(
        horizon=course.steps, warmup=spec.schedule.warmup_steps, patience=RAMP_PATIENCE if ramp else None
    )
    branch = None if spec.branch is None else Branch(spec, job.folder, job.rank)
    if branch is not None:
        branch.prepare_watch(watch)
    counts = StepCounts(
        course=course, base=spec.global_batch_size, before=course.start if branch is None else branch.steps
    )
    recorder = Recorder(
        folder=job.folder,
        rank=job.rank,
        world_size=layout.world_size,
        horizon=course.steps,
        global_batch_size=layout.global_batch_size,
        watch=watch,
        stop_on_divergence=spec.stop_on_divergence,
        monitor=spec.task.get("monitor"),
        most_steps=1 if ramp else MOST_STEPS_A_FLUSH,
        stopper=LossWatch.of(spec.stopper, spec.horizon),
        counts=counts if _has_course(spec) else None,
    )
    kind, more = _hooks(job, course, data, watch, branch)
    hooks = make_callback(
        built.flavour,
        kind,
        control=LRControl(schedule, spec.peak_lr, spec.horizon, built.lr_home or None, spec.optimizer),
        companions=CompanionControl.of(spec.companions, spec.global_batch_size),
        recorder=recorder,
        horizon=course.steps,
        forwards=layout.accumulate,
        world_size=layout.world_size,
        rank=job.rank,
        seed=spec.seed,
        per_device_batch_size=layout.per_device_batch_size,
        validate_every=spec.validate_every,
        start=None if spec.start is None else StartLoader(spec.start, job.root),
        **more,
    )
    return Course(
        job=job,
        built=built,
        data=data,
        watch=watch,
        recorder=recorder,
        hooks=hooks,
        counts=counts,
        instruments=make_instruments({**job.instruments, **spec.instruments}, built.flavour),
    )


def _hooks(
    job: Job, course: BatchCourse, data: DataControl, watch: DivergenceWatch, branch: Branch | None
) -> tuple[type[TrialHooks], dict[str, Any]]:
    """Return the kind of hooks that a trial takes, and their parts besides those of all trials."""
    spec = job.spec
    if not _has_course(spec) and not job.keep:
        return TrialHooks, {}
    keeper = StateKeeper(spec, job.keep, job.folder, job.rank, job.layout.world_size) if job.keep else None
    return CourseHooks, {
        "course": course,
        "layouts": StepLayouts(job.layout, spec.global_batch_size) if _has_course(spec) else None,
        "batches": lambda: data.batches,
        "branch": branch,
        "keeper": keeper,
        "watch": watch,
    }


def _fit(course: Course, scratch: Path) -> None:
    job, built = course.job, course.built
    spec = job.spec
    arguments, notes = trainer_arguments(
        built.trainer_config,
        built.flavour,
        layout=job.layout,
        accelerator=job.accelerator,
        horizon=spec.horizon,
        manual=not built.module.automatic_optimization,
        validate_every=spec.validate_every if course.data.has_validation else None,
        scratch=scratch,
        callbacks=[course.hooks, *course.instruments.values()],
    )
    course.notes += notes
    if job.process_group == "ray":
        arguments = on_ray(arguments, built.flavour)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = built.trainer_class(**arguments)
        replace_optimizer(built.module, spec.other_optimizer, course.notes)
        prepare_module(
            built.module,
            lambda: trainer,
            spec.horizon,
            job.layout.accumulate,
            built.flavour,
            course.notes,
            epochs=lambda: None if course.data.batches is None else course.data.batches.epochs,
        )
        course.data.on_validation_known = lambda sizes: setattr(course.recorder, "validation_sizes", sizes)
        fit(trainer, built)


def fit(trainer: Any, built: BuiltTask) -> None:
    """Fit the module on its data, wherever they are."""
    if built.datamodule is not None:
        trainer.fit(built.module, datamodule=built.datamodule)
    elif built.train_loader is not None:
        trainer.fit(built.module, built.train_loader, built.val_loader)
    else:
        trainer.fit(built.module)


def _outcome(course: Course, submitted: float) -> dict[str, Any]:
    job, recorder, watch, built, data = course.job, course.recorder, course.watch, course.built, course.data
    final, status, reason = recorder.final_loss(), course.status, course.reason
    if status == "completed" and recorder.diverged is not None:
        status, reason = "diverged", recorder.diverged
    steps = course.counts.course.steps
    if status == "completed" and recorder.steps < steps:
        status, reason = "stopped", f"training ended by itself after {recorder.steps} of {steps} steps"
    if status == "completed" and (verdict := watch.verdict_at_end()) is not None:
        status, reason = "diverged", verdict
    notes = [*course.notes, *data.notes, *course.hooks.closing_notes(), *recorder.notes]
    for instrument in course.instruments.values():
        instrument.take_losses(recorder.losses[: recorder.steps])
        notes += instrument.remarks()
    if not recorder.validations and job.spec.validate_every is not None and status == "completed":
        notes.append("there is no validation: the mean training loss of the last tenth of the steps is compared")
    measurements = {name: instrument.measurement() for name, instrument in course.instruments.items()}
    if recorder.ended is not None:
        measurements[STOPPER] = recorder.ended.to_dict()
    fields = {
        "status": status,
        "reason": reason,
        "final_loss": final if status == "completed" else None,
        "best_loss": recorder.best_loss(),
        "initial_loss": watch.initial,
        "final_train_loss": recorder.final_train_loss(),
        "monitor": recorder.monitor or "train_loss",
        "steps": recorder.steps,
        "examples": course.counts.own_examples(recorder.steps),
        "timing": _timing(course, submitted),
        "environment": describe_environment(job.accelerator),
        "facts": {**course.hooks.facts, **built_facts(built, data)},
        "measurements": measurements,
        "warnings": list(dict.fromkeys(notes)),
        "retryable": course.retryable,
    }
    if course.failed_at is None:
        return {"kind": "result", "fields": fields}
    return {"kind": "failure", "at": course.failed_at, "fields": fields}


def built_facts(built: BuiltTask, data: DataControl) -> dict[str, Any]:
    """Return what is known of a task once it is built and its loaders are formed."""
    return {
        "module": f"{type(built.module).__module__}.{type(built.module).__qualname__}",
        "flavour": built.flavour.package,
        "automatic_optimization": bool(built.module.automatic_optimization),
        "batch_size_home": built.batch_size_home,
        "own_batch_size": built.own_batch_size,
        "lr_home": built.lr_home,
        "training_examples": data.training_examples,
        "data_source": data.source,
        "validation_examples": data.validation_examples,
        "validation_drops_last": data.validation_drops_last,
    }


def _timing(course: Course, submitted: float) -> dict[str, float]:
    recorder, counts = course.recorder, course.counts
    seconds = recorder.step_seconds[: recorder.steps]
    measured = sorted(seconds[UNMEASURED_STEPS:])
    timing = {
        "setup": (recorder.began_at or time.time()) - submitted,
        "training": sum(seconds),
        "validation": recorder.validation_seconds,
    }
    if seconds:
        timing["step_min"] = min(seconds)
    if measured:
        mean = mean_of_series(seconds[UNMEASURED_STEPS:])
        timing["step_mean"] = mean.value
        if mean.se is not None:
            timing["step_se"], timing["step_degrees"] = mean.se, mean.degrees
        timing["step_p50"] = statistics.median(measured)
        timing["step_p90"] = measured[min(len(measured) - 1, int(0.9 * len(measured)))]
        examples = counts.examples(recorder.steps) - counts.examples(recorder.steps - len(measured))
        timing["examples_per_second"] = examples / sum(measured)
    return timing
