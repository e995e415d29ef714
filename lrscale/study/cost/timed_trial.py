"""The parts of the time that a finished trial took."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import final

from lrscale.store import Trial, TrialSpec
from lrscale.units import Layout

TELLING = frozenset({"completed", "diverged", "stopped"})
"""Endings after which the parts are those of a trial that ran as it should."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTrial:
    """Start, steps and validations of a trial: ``total = start + steps * step + validation``."""

    task: str
    """What was trained; see `task_of`."""
    layout: Layout
    kind: tuple[str, ...]
    """What else makes it differ in time; see `kind_of`."""
    pinned: bool
    """Whether its layout was pinned."""
    steps: int
    step: float
    """Mean seconds of a step after the first ones, which take longer; of the fastest one where there were no others."""
    settled: bool
    """Whether there were others."""
    start: float
    """Seconds of everything else: processes, imports, the task's own set-up, the excess of the first steps, checkpoints
    and the end."""
    validations: int
    validation: float
    """Seconds of all validations together."""
    total: float


def task_of(spec: TrialSpec) -> str:
    """Return what a trial trains: models of another size take another time.

    Examples
    --------
    >>> from lrscale.store import ScheduleSpec
    >>> task_of(TrialSpec(task={"model": 1}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8,
    ...                   horizon=4, seed=0))
    '[{"model": 1}, {}]'
    """
    return json.dumps([dict(spec.task), dict(spec.overrides)], sort_keys=True, default=str)


def kind_of(spec: TrialSpec) -> tuple[str, ...]:
    """Return what makes trials differ in time besides their layout: what they carry, and how often they are on disk.

    A pinned layout is there to be timed and carries fewer instruments; a ramp is on disk after every step.

    Examples
    --------
    >>> from lrscale.store import ScheduleSpec
    >>> kind_of(TrialSpec(task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8, horizon=4,
    ...                   seed=0, instruments={"memory": {}}))
    ('memory',)
    """
    own = (("pinned",) if spec.layout is not None else ()) + (("ramp",) if spec.schedule.name == "ramp" else ())
    return (*own, *sorted(spec.instruments))


def validations_of(spec: TrialSpec) -> int:
    """Return how many times a trial validates.

    Examples
    --------
    >>> from lrscale.store import ScheduleSpec
    >>> spec = TrialSpec(task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8, horizon=62,
    ...                  seed=0, validate_every=7)
    >>> validations_of(spec)
    9
    """
    if spec.validate_every is None:
        return 0
    if spec.validate_every == 0:
        return 1
    before = 0 if spec.branch is None else spec.branch.position // spec.validate_every
    return -(-spec.horizon // spec.validate_every) - before


def timed(trial: Trial) -> TimedTrial | None:
    """Return the parts of a trial's time, or None where its record does not hold them."""
    record, timing = trial.record, trial.record.timing
    total, training = timing.get("total"), timing.get("training")
    if record.layout is None or record.status not in TELLING or not total or training is None or record.steps < 1:
        return None
    if trial.spec.batch_schedule is not None:
        # Its steps are of several sizes.
        return None
    rate = timing.get("examples_per_second")
    # A record of before the mean was kept has its rate alone.
    step = timing.get("step_mean") or (record.layout.global_batch_size / rate if rate else None)
    settled = step is not None
    if step is None:
        # The first steps take longer; of a record of before the fastest one was kept, their mean is all there is.
        step = timing.get("step_min", training / record.steps)
    validation = timing.get("validation", 0.0)
    count = validations_of(trial.spec)
    if record.status != "completed":
        every = trial.spec.validate_every
        count = record.steps // every if every else 0
    return TimedTrial(
        task=task_of(trial.spec),
        layout=record.layout,
        kind=kind_of(trial.spec),
        pinned=trial.spec.layout is not None,
        steps=record.steps,
        step=step,
        settled=settled,
        start=max(0.0, total - validation - record.steps * step),
        validations=count if validation > 0 else 0,
        validation=validation,
        total=total,
    )
