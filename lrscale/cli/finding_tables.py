"""The tables of a finding that a terminal shows below its sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrscale.cli.forecast import families_table, published_table
from lrscale.cli.text import interval, number, seconds, table

if TYPE_CHECKING:
    from lrscale.study.finding import Finding


def table_lines(finding: Finding) -> list[str]:
    """Return the tables of a finding, line by line; none for an experiment whose answer is a sentence."""
    make = {
        "throughput": _throughput,
        "memory": _memory,
        "forecast": _forecast,
        "rules": _rules,
        "schedules": _schedules,
        "factors": _factors,
        "horizons": _horizons,
        "critical_batch": _critical_batch,
    }.get(finding.key)
    return [] if make is None else [line for text in make(finding) for line in ("", *text.splitlines())]


def _horizons(finding: Finding) -> list[str]:
    rows = finding.tables.get("horizons", ())
    header = ["examples", "steps", "measured by", "best LR", "lowest loss"]
    lines = [
        [
            f"{row['examples']:,}",
            f"{row['steps']:,}",
            str(row["source"]),
            interval(row["best_lr"], row["lr_lo"], row["lr_hi"]),
            interval(row["loss"], row["loss_lo"], row["loss_hi"]),
        ]
        for row in rows
    ]
    return [table(header, lines, right=[0, 1])] if lines else []


def _critical_batch(finding: Finding) -> list[str]:
    rows = finding.tables.get("compared", ())
    header = ["critical batch by", "where", "examples", "at least", "below"]
    lines = [
        [str(row["definition"]), str(row["where"]), *(_whole(row[name]) for name in ("value", "lo", "hi"))]
        for row in rows
    ]
    return [table(header, lines, right=[2, 3, 4])] if lines else []


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _throughput(finding: Finding) -> list[str]:
    rows = finding.tables.get("layouts", ())
    if not rows:
        return []
    knees = {knee["ranks"]: knee for knee in finding.data.get("knees", ())}
    header = ["devices", "per device", "examples/s", "step", "90 % of steps", "data", "other ranks", ""]
    lines = [
        [
            f"{row['devices'] * row['num_nodes']:,}",
            f"{row['per_device_batch_size']:,}",
            interval(row["examples_per_second"], row["lo"], row["hi"]),
            _step(row["step_p50"]),
            f"to {_step(row['step_p90'])}",
            _share(row["data_share"]),
            _share(row["sync_share"]),
            _knee(row, knees),
        ]
        for row in rows
    ]
    found = [table(header, lines, right=[0, 1, 3, 5, 6])]
    targets = finding.tables.get("targets", ())
    if targets:
        header = ["global batch", "per device", "accumulation", "devices", "examples/s", ""]
        lines = [
            [
                f"{row['global_batch_size']:,}",
                f"{row['per_device_batch_size']:,}",
                f"{row['accumulate']:,}",
                f"{row['devices'] * row['num_nodes']:,}",
                interval(row["examples_per_second"], row["lo"], row["hi"]),
                str(row["how"]),
            ]
            for row in targets
        ]
        found.append(table(header, lines, right=[0, 1, 2, 3]))
    return found


def _memory(finding: Finding) -> list[str]:
    rows = finding.tables.get("probes", ())
    if not rows:
        return []
    header = ("per device", "peak of the worst rank", "outcome")
    lines = [
        (
            f"{row['per_device_batch_size']:,}",
            "" if row["peak"] is None else f"{row['peak'] / 2**20:,.0f} MiB",
            "trains and validates" if row["ran"] else _outcome(row),
        )
        for row in rows
    ]
    return [table(header, lines, right=[0, 1])]


def _forecast(finding: Finding) -> list[str]:
    families = finding.tables.get("families", ())
    if not families:
        return []
    return [families_table(families), published_table(finding.tables.get("published", ()))]


def _schedules(finding: Finding) -> list[str]:
    rows = finding.tables.get("schedules", ())
    if not rows:
        return []
    header = ["place", "schedule", "best LR", "loss", "difference to the lowest", ""]
    lines = [
        [
            _places(row.get("places")),
            str(row["label"]),
            interval(row["best_lr"], row["lr_lo"], row["lr_hi"]),
            interval(row["loss"], row["loss_lo"], row["loss_hi"]),
            interval(row["difference"], row["difference_lo"], row["difference_hi"]) if row["difference"] else "",
            str(row["verdict"]) if row["loss"] is not None else "no optimum inside its LRs",
        ]
        for row in rows
    ]
    found = [table(header, lines)]
    along = finding.tables.get("along", ())
    if along:
        header = ["schedule", "at LR", "last loss", "lowest loss", "mean loss", "examples to target", "time to target"]
        lines = [
            [
                str(row["label"]),
                number(row["lr"]),
                *(_with_gap(row, name) for name in ("final", "lowest", "mean", "examples")),
                "" if row["seconds"] is None else seconds(row["seconds"]),
            ]
            for row in along
        ]
        found.append(table(header, lines))
    return found


def _places(places: Sequence[int] | None) -> str:
    if places is None:
        return ""
    first, last = places
    return f"{first}" if first == last else f"{first} to {last}"


def _with_gap(row: Mapping[str, Any], name: str) -> str:
    value, gap = row[name], row[f"{name}_gap"]
    if value is None:
        return ""
    told = f"{value:,.0f}" if name == "examples" else number(value, 4)
    if gap is None:
        return told
    sign = "+" if gap > 0 else ""
    return f"{told} ({sign}{f'{gap:,.0f}' if name == 'examples' else number(gap, 2)})"


def _rules(finding: Finding) -> list[str]:
    rows = finding.tables.get("rules", ())
    header = ("rule of thumb", "verdict", "effect")
    return [table(header, [(str(row["claim"]), str(row["verdict"]), str(row["effect"])) for row in rows])]


def _factors(finding: Finding) -> list[str]:
    header = ("value", "best LR", "loss", "against the lowest", "validation minus training", "")
    found = []
    for factor in finding.data.get("factors", ()):
        rows = [
            (
                str(level["label"]),
                interval(level["best_lr"], level["lo"], level["hi"]),
                interval(level["loss"], level["loss_lo"], level["loss_hi"]),
                str(level["verdict"]),
                interval(level["gap"], level["gap_lo"], level["gap_hi"]),
                "" if level["best_lr"] is not None else str(level["status"]).replace("_", " "),
            )
            for level in factor["levels"]
        ]
        found.append(table(header, rows))
    return found


def _outcome(row: Mapping[str, Any]) -> str:
    told = str(row["status"]).replace("_", " ")
    return f"{told} in {row['ended_in']}" if row["ended_in"] else told


def _step(value: float) -> str:
    return f"{number(1000 * value, 2)} ms" if value < 10 else seconds(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _knee(row: Mapping[str, Any], knees: Mapping[int, Mapping[str, Any]]) -> str:
    knee = knees.get(row["devices"] * row["num_nodes"])
    if knee is None or knee["size"] != row["per_device_batch_size"] or row["accumulate"] != 1:
        return ""
    if knee["at_edge"]:
        return "still rising"
    told = f"knee at {number(100 * knee['share'])} %"
    known = knee["lo"] is not None and (knee["lo"], knee["hi"]) != (knee["size"], knee["size"])
    return f"{told} ({knee['lo']:,} to {knee['hi']:,})" if known else told
