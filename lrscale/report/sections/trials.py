"""Every trial, failures included."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Table
from lrscale.report.context import ReportContext
from lrscale.report.stability_data import spikes_of
from lrscale.report.words import finite, plural, short

if TYPE_CHECKING:
    from lrscale.store import TrialSpec
    from lrscale.store.view import Trial

COLUMNS = (
    Column(key="trial_id", label="trial"),
    Column(key="experiment", label="experiment"),
    Column(key="status", label="status", kind="status"),
    Column(key="lr", label="peak LR", kind="rate"),
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="schedule", label="schedule"),
    Column(key="companions", label="companions"),
    Column(key="seed", label="seed", kind="count"),
    Column(key="steps", label="steps", kind="count"),
    Column(key="examples", label="examples", kind="count"),
    Column(key="loss", label="loss", kind="loss"),
    Column(key="best_loss", label="lowest", kind="loss"),
    Column(key="spikes", label="spikes", kind="count"),
    Column(key="seconds", label="time", kind="duration"),
    Column(key="devices", label="devices", kind="count"),
    Column(key="reason", label="reason"),
)


@final
class TrialsSection(AbstractSection):
    """The table that every other section stands on."""

    key: ClassVar[str] = "trials"
    title: ClassVar[str] = "Every trial"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        return None if context.trials else "No trial has finished yet."

    @override
    def compute(self, context: ReportContext) -> Card:
        rows = tuple(_row(context, trial) for trial in sorted(context.trials, key=_order))
        # A column that would be empty throughout says nothing.
        unused = {key for key in ("companions", "spikes") if all(row[key] is None for row in rows)}
        statuses = Counter(trial.record.status for trial in context.trials)
        said = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in statuses.most_common())
        unfinished = context.begun - len(context.trials)
        sentence = f"{plural(len(rows), 'trial')}: {said}."
        if unfinished > 0:
            sentence += (
                f" {plural(unfinished, 'trial')} began and left no record; running the study again repeats them."
            )
        return Card(
            key=self.key,
            title=self.title,
            finding=sentence,
            tables=(
                Table(
                    key="trials",
                    caption="All trials",
                    columns=tuple(column for column in COLUMNS if column.key not in unused),
                    rows=rows,
                    sortable=True,
                    open=len(rows) <= 12,
                ),
            ),
            method="A trial is named by the hash of what determines its result. Column heads sort.",
        )


def _row(context: ReportContext, trial: Trial) -> dict[str, Any]:
    record, spec = trial.record, trial.spec
    total, spikes = record.timing.get("total"), spikes_of(trial)
    return {
        "trial_id": trial.trial_id,
        "experiment": context.experiment_of[trial.trial_id].replace("_", " "),
        "status": record.status,
        "lr": spec.peak_lr,
        "batch_size": spec.global_batch_size,
        "schedule": short(_schedule(spec), 80),
        "companions": short(spec.companions["policy"], 24) if spec.companions else None,
        "seed": spec.seed,
        "steps": record.steps,
        "examples": record.examples,
        "loss": record.final_loss,
        "best_loss": record.best_loss,
        "spikes": None if spikes is None else len(spikes.spikes),
        "seconds": float(total) if finite(total) else None,
        "devices": record.layout.world_size if record.layout else None,
        "reason": short(record.reason, 160) if record.reason else None,
    }


def _order(trial: Trial) -> tuple[Any, ...]:
    spec = trial.spec
    return (spec.layout is not None, spec.label, spec.global_batch_size, spec.peak_lr, spec.seed)


def _schedule(spec: TrialSpec) -> str:
    grown = "" if spec.batch_schedule is None else f", batch {spec.batch_schedule.label}"
    since = "" if spec.branch is None else f", from step {spec.branch.position:,} of {spec.branch.trial_id}"
    return f"{spec.label}{grown}{since}"
