"""What a finished trial leaves behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final, get_args

from lrscale.errors import StudyError
from lrscale.units import Layout

RECORD_VERSION = 1
"""Schema version of record.json."""

STOPPER = "stopper"
"""Under this name the measurements of a trial say where its stopper has ended it (`lrscale.stoppers.Ended`)."""

Status = Literal["completed", "diverged", "out_of_memory", "crashed", "stopped", "timed_out"]
STATUSES: tuple[Status, ...] = get_args(Status)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """The outcome of one trial, written once.

    `final_loss` and `best_loss` are of the monitored loss: validation where there is one, else the mean training loss
    over the last tenth of the steps.

    Examples
    --------
    >>> record = TrialRecord(trial_id="ab", status="completed", final_loss=0.5)
    >>> TrialRecord.from_dict(record.to_dict()) == record
    True
    """

    trial_id: str
    status: Status
    reason: str | None = None
    """Why the trial is not completed, as a sentence; None when it is."""
    final_loss: float | None = None
    """Monitored loss at the horizon, in the task's unit; None unless completed."""
    best_loss: float | None = None
    """Lowest monitored loss seen, in the task's unit; None when none was."""
    initial_loss: float | None = None
    """Mean training loss of the first steps, in the task's unit."""
    final_train_loss: float | None = None
    """Mean training loss of the last tenth of the horizon's steps; None when none was finite."""
    monitor: str | None = None
    """Name of the monitored loss; ``"train_loss"`` when there is no validation."""
    steps: int = 0
    """Optimizer steps done."""
    examples: int = 0
    """Training examples seen."""
    layout: Layout | None = None
    """Where it ran; no part of what determines the result."""
    timing: Mapping[str, float] = field(default_factory=dict)
    """Seconds: ``total`` (start to end, seen by the driver), ``training``, ``validation``, ``setup``, ``step_min`` of
    the fastest step, and ``step_p50``/``step_p90``; ``examples_per_second`` over the training steps after the first,
    with ``step_mean`` of a step there, ``step_se``, its standard error that knows of autocorrelation, and its
    ``step_degrees`` of freedom."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, host, device name, rank count."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was found out about the module: optimizers, parameter groups, reference LR, where the batch size lives,
    number of training examples, number of parameters."""
    measurements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each instrument measured, by its name."""
    warnings: tuple[str, ...] = ()
    """What a reader of the result must know, as sentences."""
    retryable: bool = False
    """Whether running it again can help: a lost process or node, never the module's own error."""
    runs_lost: int = 0
    """Runs of the study, on end, that have lost the trial's processes; 0 where it ended in its own way."""
    log_tail: tuple[str, ...] = ()
    """Last log lines of the rank that failed; empty when completed."""

    @property
    def ended_by_stopper(self) -> Mapping[str, Any] | None:
        """Where a stopper has ended the trial and why; None where none has, or where that is not known."""
        return self.measurements.get(STOPPER) if self.status == "stopped" else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        plain = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        plain["layout"] = None if self.layout is None else dataclasses.asdict(self.layout)
        for name in ("timing", "environment", "facts", "measurements"):
            plain[name] = dict(plain[name])
        plain["warnings"], plain["log_tail"] = list(self.warnings), list(self.log_tail)
        return {"schema_version": RECORD_VERSION, **plain}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrialRecord:
        """Read what `to_dict` wrote.

        Raises
        ------
        StudyError
            For a record of a newer version or with an unknown status.
        """
        values = dict(plain)
        version = values.pop("schema_version")
        if version > RECORD_VERSION:
            raise StudyError(
                f"record version {version} is newer than {RECORD_VERSION}, the newest this lrscale reads",
                hint="upgrade lrscale",
            )
        if values["status"] not in STATUSES:
            raise StudyError(f"trial {values['trial_id']} has the unknown status {values['status']}")
        values["layout"] = None if values["layout"] is None else Layout(**values["layout"])
        values["warnings"], values["log_tail"] = tuple(values["warnings"]), tuple(values["log_tail"])
        return cls(**values)
