"""``lrscale fit`` and its options: columns of the table, and how to read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TableArgument = Annotated[
    Path, typer.Argument(metavar="TABLE|STUDY", help="CSV, TSV, JSON lines or Parquet, or a study folder.")
]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind", metavar="KIND", help="What a row is: runs, steps or curves. Default: seen from the columns."
    ),
]
LRColumn = Annotated[str | None, typer.Option("--lr", metavar="COL", help="Column of the peak learning rate.")]
BatchColumn = Annotated[str | None, typer.Option("--batch", metavar="COL", help="Column of the batch size.")]
LossColumn = Annotated[str | None, typer.Option("--loss", metavar="COL", help="Column of the final loss.")]
SeedColumn = Annotated[str | None, typer.Option("--seed", metavar="COL", help="Column of the seed.")]
StatusColumn = Annotated[str | None, typer.Option("--status", metavar="COL", help="Column of the status.")]
ParamsColumn = Annotated[str | None, typer.Option("--params", metavar="COL", help="Column of the model size.")]
TokensColumn = Annotated[str | None, typer.Option("--tokens", metavar="COL", help="Column of the training tokens.")]
ExamplesColumn = Annotated[
    str | None, typer.Option("--examples", metavar="COL", help="Column of the training examples.")
]
StepsColumn = Annotated[str | None, typer.Option("--steps", metavar="COL", help="Column of the optimizer steps.")]
ScheduleColumn = Annotated[str | None, typer.Option("--schedule", metavar="COL", help="Column of the schedule.")]
TaskColumn = Annotated[str | None, typer.Option("--task", metavar="COL", help="Column of the task.")]
StepsToTargetColumn = Annotated[
    str | None, typer.Option("--steps-to-target", metavar="COL", help="steps: column of the steps to the target.")
]
TargetColumn = Annotated[
    str | None, typer.Option("--target", metavar="COL", help="steps: column that tells targets apart.")
]
ReferenceBatchOption = Annotated[
    float | None,
    typer.Option(
        "--reference-batch", metavar="B", help="steps: where the 20 % definition begins. Default: the smallest."
    ),
]
RunColumn = Annotated[str | None, typer.Option("--run", metavar="COL", help="curves: column that tells runs apart.")]
StepColumn = Annotated[str | None, typer.Option("--step", metavar="COL", help="curves: column of the step of a point.")]
ByOption = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="COL,...", help="Fit each value of these columns on its own. Repeatable."),
]
BatchUnitOption = Annotated[
    str | None, typer.Option("--batch-unit", metavar="UNIT", help="What a batch counts: examples, sequences or tokens.")
]
DropBadOption = Annotated[bool, typer.Option("--drop-bad", help="Leave out rows without a positive LR and batch size.")]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write an HTML report.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where the fits go. Default: fits.json by the report, or here."),
]
HoldoutOption = Annotated[
    str | None, typer.Option("--holdout", metavar="largest", help="Fit without the largest, and report the miss.")
]
ConfidenceOption = Annotated[
    float | None, typer.Option("--confidence", metavar="P", help="Of all intervals. Default: 0.95.")
]
ToleranceOption = Annotated[
    float | None, typer.Option("--tolerance", metavar="T", help="Relative loss called equal. Default: 0.001.")
]


def fit(
    table: TableArgument,
    kind: KindOption = None,
    lr: LRColumn = None,
    batch: BatchColumn = None,
    loss: LossColumn = None,
    seed: SeedColumn = None,
    status: StatusColumn = None,
    params: ParamsColumn = None,
    tokens: TokensColumn = None,
    examples: ExamplesColumn = None,
    steps: StepsColumn = None,
    schedule: ScheduleColumn = None,
    task: TaskColumn = None,
    steps_to_target: StepsToTargetColumn = None,
    target: TargetColumn = None,
    reference_batch: ReferenceBatchOption = None,
    run: RunColumn = None,
    step: StepColumn = None,
    by: ByOption = None,
    batch_unit: BatchUnitOption = None,
    drop_bad: DropBadOption = False,
    report: ReportOption = None,
    out: OutOption = None,
    holdout: HoldoutOption = None,
    confidence: ConfidenceOption = None,
    tolerance: ToleranceOption = None,
) -> None:
    """Fit the laws to a table, or to a study anew.

    A row is a finished run with its loss (runs), a run with its steps to a target (steps), or a point of a run's loss
    curve (curves).

    Columns are guessed from their names unless a flag names them, and every guess is printed. The exit code is 1 when
    nothing could be fitted.
    """
    from lrscale.cli.fit import TableRequest, fit_path

    columns = {
        "lr": lr,
        "batch": batch,
        "loss": loss,
        "seed": seed,
        "status": status,
        "params": params,
        "tokens": tokens,
        "examples": examples,
        "steps": steps,
        "schedule": schedule,
        "task": task,
        "steps_to_target": steps_to_target,
        "target": target,
        "run": run,
        "step": step,
    }
    request = TableRequest(
        path=table,
        kind=kind,
        columns={name: column for name, column in columns.items() if column is not None},
        reference_batch=reference_batch,
        by=tuple(name.strip() for group in by or () for name in group.split(",") if name.strip()),
        batch_unit=batch_unit,
        drop_bad=drop_bad,
        report=report,
        out=out,
        holdout=holdout,
        confidence=confidence,
        tolerance=tolerance,
    )
    raise typer.Exit(fit_path(request))
