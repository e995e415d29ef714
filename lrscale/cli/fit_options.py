"""The options of ``lrscale fit``: columns of the table, and how to read it."""

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
