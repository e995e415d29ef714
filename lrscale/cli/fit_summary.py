"""What ``lrscale fit`` prints of a table: short, in ASCII, every guess and every drop said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrscale.cli.text import count, interval, number, table, wrapped

if TYPE_CHECKING:
    from lrscale.study.finding import Quantity
    from lrscale.sweep import CurvesTableFit, GroupFit, StepsTableFit, SweepFit
    from lrscale.sweep.result import Source

MOST_GROUPS = 40
MOST_REASONS = 12


def summary_lines(fit: SweepFit) -> list[str]:
    """Return the summary, line by line."""
    source = fit.source
    diverged = f", {source.n_diverged:,} diverged" if source.n_diverged else ", none diverged"
    unit = "" if source.batch_unit is None else f"; batch in {source.batch_unit}"
    lines = [f"{source.file}: {count(source.n_rows, 'row')}, {count(source.n_runs, 'run')}{diverged}{unit}"]
    lines += _columns(source)
    if source.batch_unit is None:
        lines.append("  the unit of the batch size is not known (--batch-unit)")
    for note in source.notes:
        lines.append(wrapped(note, indent="    ", first="  "))
    for warning in fit.warnings:
        lines.append(wrapped(f"warning: {warning}", indent="    ", first="  "))
    lines.append("")
    lines += _one(fit.groups[0]) if len(fit.groups) == 1 else _several(fit)
    if fit.scale is not None:
        lines.append("")
        if not fit.scale.fits:
            lines.append(wrapped(f"against scale: {fit.scale.reason}", indent="  ", first=""))
        for law in fit.scale.fits.values():
            lines += _wrapped_lines(law.summary())
    lines.append("")
    return lines


def law_lines(fit: StepsTableFit | CurvesTableFit) -> list[str]:
    """Return the summary of a table whose groups have one law each, line by line."""
    source = fit.source
    lines = [f"{source.file}: {count(source.n_rows, 'row')}, {count(source.n_runs, 'run')}"]
    lines += _columns(source)
    lines += [wrapped(note, indent="    ", first="  ") for note in source.notes]
    lines += [wrapped(f"warning: {warning}", indent="    ", first="  ") for warning in fit.warnings]
    for group in fit.groups[:MOST_GROUPS]:
        lines += ["", *([group.label] if group.key else []), *_wrapped_lines(group.fit.summary())]
        lines += [wrapped(f"note: {note}", indent="    ", first="  ") for note in group.notes]
    if len(fit.groups) > MOST_GROUPS:
        lines.append(f"... and {len(fit.groups) - MOST_GROUPS} more groups, in the fits")
    return [*lines, ""]


def _columns(source: Source) -> list[str]:
    lines = [wrapped(sentence, indent="    ", first="  ") for sentence in source.guessed]
    for role, column in source.columns.items():
        if not any(sentence.startswith(f"{role}:") for sentence in source.guessed):
            lines.append(f"  {role}: column {column}")
    return lines


def _one(group: GroupFit) -> list[str]:
    header = ("batch", "best LR", "loss", "runs", "status")
    rows = [
        (
            f"{row['batch_size']:.15g}",
            _span(row["best_lr"], row["lo"], row["hi"]),
            number(row["loss"], 4),
            f"{row['trials']:,}",
            str(row["status"]),
        )
        for row in group.finding.tables["slices"]
    ]
    lines = [
        wrapped(group.finding.sentence, indent="  ", first=""),
        "",
        *table(header, rows, right=[0, 3]).splitlines(),
    ]
    lines += ["", *_wrapped_lines(group.law.summary())]
    lines += [wrapped(note, indent="  ", first="") for note in group.notes]
    lines += _held_out([group])
    lines += _refusals([group])
    return lines


def _several(fit: SweepFit) -> list[str]:
    header = ("group", "best LR", "at batch", "loss", "law", "diverged")
    rows = []
    for group in fit.groups[:MOST_GROUPS]:
        numbers = group.finding.numbers
        lr, batch, loss = (numbers.get(key) for key in ("best_lr", "best_batch_size", "loss"))
        law = group.finding.data["law"]
        rows.append(
            (
                group.label,
                _quantity(lr) if lr else "none inside",
                f"{batch.value:.15g}" if batch and batch.value is not None else "-",
                number(loss.value, 4) if loss else "-",
                str(law["law"] or law["status"]).replace("_", " "),
                f"{group.n_diverged:,} of {group.n_runs:,}",
            )
        )
    lines = table(header, rows, right=[2, 5]).splitlines()
    if len(fit.groups) > MOST_GROUPS:
        lines.append(f"... and {len(fit.groups) - MOST_GROUPS} more groups, in the fits")
    return lines + _held_out(fit.groups) + _refusals(fit.groups)


def _held_out(groups: list[GroupFit] | tuple[GroupFit, ...]) -> list[str]:
    lines = []
    for group in groups:
        if group.holdout is not None:
            told = group.holdout if isinstance(group.holdout, str) else group.holdout.text()
            where = f", {group.label}" if group.key else ""
            lines.append(wrapped(f"held out{where}: {told}", indent="  ", first=""))
    return ["", *lines] if lines else []


def _refusals(groups: list[GroupFit] | tuple[GroupFit, ...]) -> list[str]:
    """Return why slices and laws were refused, the first of them."""
    told = []
    for group in groups:
        for check in group.finding.checks:
            if check.status != "PASS":
                remedy = f" To do: {check.remedy}." if check.remedy else ""
                told.append(f"no {check.name}: {check.sentence.rstrip('.')}.{remedy}")
        law = group.finding.data["law"]
        if law["law"] is None and group.ok:
            told.append(f"no law in {group.label}: {law['reason']}")
    lines = [wrapped(one, indent="  ", first="") for one in told[:MOST_REASONS]]
    if len(told) > MOST_REASONS:
        lines.append(f"... and {len(told) - MOST_REASONS} more such, in the fits")
    return ["", *lines] if lines else []


def _wrapped_lines(text: str) -> list[str]:
    return [wrapped(line.strip(), indent=f"{_margin(line)}  ", first=_margin(line)) for line in text.splitlines()]


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _quantity(one: Quantity) -> str:
    return interval(one.value, one.lo, one.hi, one.confidence)


def _span(value: float | None, lo: float | None, hi: float | None) -> str:
    if value is not None:
        return f"{number(value)} ({number(lo)} to {number(hi)})"
    if lo is not None and hi is None:
        return f"above {number(lo)}"
    return f"below {number(hi)}" if hi is not None and lo is None else "-"
