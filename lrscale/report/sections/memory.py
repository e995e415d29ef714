"""How large a batch fits on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, finite, percent, short, with_interval

COLUMNS = (
    Column(key="per_device_batch_size", label="per device", kind="count"),
    Column(key="peak_gib", label="peak, GiB", kind="number"),
    Column(key="allocated_gib", label="allocated, GiB", kind="number"),
    Column(key="outcome", label="outcome"),
    Column(key="seconds", label="time of the probe", kind="duration"),
)
CAPTION = "Sizes probed, with the peak of the worst rank"
GIB = 2.0**30
FAR_BELOW = 6.0
"""Capacity over the largest peak from which on both are readable on a log axis alone."""


@final
class MemorySection(AbstractSection):
    """Peak memory against the per-device batch, with the fitted line, the capacity and the margin."""

    key: ClassVar[str] = "memory"
    title: ClassVar[str] = "How large a batch fits on a device?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("memory")
        if finding is None:
            return "Memory was not probed in this study (experiments.memory)."
        if not finding.data.get("rows"):
            return f"No memory can be shown: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("memory")
        assert finding is not None
        data = finding.data
        rows = [_shown(row) for row in data["rows"]]
        figures: tuple[Figure, ...] = ()
        if any(finite(row["peak"]) for row in rows):
            figures = (
                Figure.single(
                    "peaks",
                    (Panel(draw=partial(_draw, data=data), wide=(720, 320), narrow=(350, 290)),),
                    alt=finding.sentence,
                    caption="A probe each: a few steps and a validation, in fresh processes on all devices. Sizes that "
                    "did not fit are drawn at the capacity.",
                    legend=_legend(data),
                    points={
                        "per_device_batch_size": [row["per_device_batch_size"] for row in rows],
                        "peak": [row["peak"] for row in rows],
                    },
                ),
            )
        law = data["law"]
        notes = []
        if law.get("per_example") is not None:
            ends = law["per_example_interval"]
            scale = 2.0**20
            each = with_interval(law["per_example"] / scale, ends["lo"] / scale, ends["hi"] / scale, 3)
            fixed = law["fixed_interval"]
            rest = with_interval(law["fixed"] / GIB, fixed["lo"] / GIB, fixed["hi"] / GIB, 3)
            notes.append(f"Each example takes {each} MiB, and {rest} GiB do not depend on the batch.")
        else:
            notes.append(f"No line was fitted to the peaks: {short(law['reason'], 200)}.")
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=figures,
            tables=(
                Table(
                    key="probes",
                    caption=CAPTION,
                    columns=tuple(column for column in COLUMNS if column.key != "allocated_gib" or _says(rows, column)),
                    rows=tuple(rows),
                    sortable=True,
                ),
            ),
            notes=tuple(notes),
            method=_method(data, rows),
        )


def _says(rows: Sequence[Mapping[str, Any]], column: Column) -> bool:
    return any(row[column.key] is not None for row in rows)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    outcome = "fits" if row["ran"] else str(row["status"]).replace("_", " ")
    if row["ran"] and not row["validated"]:
        outcome = "fits; not validated"
    if not row["ran"] and row["ended_in"]:
        outcome += f" in {row['ended_in']}"
    if row["alloc_retries"]:
        outcome = f"thrashes: {row['alloc_retries']} flushes of the cache"
    return {
        **row,
        "outcome": outcome,
        "peak_gib": row["peak"] / GIB if finite(row["peak"]) else None,
        "allocated_gib": row["allocated"] / GIB if finite(row["allocated"]) else None,
    }


def _legend(data: Mapping[str, Any]) -> tuple[LegendEntry, ...]:
    entries = [LegendEntry(mark="dot", label="fits")]
    if any(not row["ran"] for row in data["rows"]):
        entries.append(LegendEntry(mark="cross", label="does not fit"))
    if data["band"]:
        entries.append(LegendEntry(mark="band", label="fitted line, 95 % of new probes"))
    return tuple(entries)


def _method(data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    on_cpu = any(row["kind"] == "cpu" for row in rows)
    what = (
        "On CPU the peak is the high-water mark of the process's resident set, libraries included: an approximation."
        if on_cpu
        else "The peak is what PyTorch's allocator reserved at most, and what else lies on the device: context, "
        "communication buffers, other processes."
    )
    return (
        f"{what} The rank that needs the most counts. Sizes double until three have run, then a line fitted to the "
        "peaks says where to look; a size that fails although the line allows it is bisected. Only sizes up to the "
        f"largest that ran are ever named, with {percent(data['margin'])} of the memory left free. Validation batches "
        "grow with the training batches where the task's own do."
    )


def _draw(canvas: Canvas, data: Mapping[str, Any]) -> None:
    rows, capacity, axes = data["rows"], data["capacity"], canvas.axes
    ran = [row for row in rows if finite(row["peak"])]
    failed = [row for row in rows if not row["ran"]]
    sizes = [float(row["per_device_batch_size"]) for row in rows]
    peaks = [row["peak"] / GIB for row in ran]
    band = data["band"]
    limit = None if not finite(capacity) else capacity / GIB
    log = limit is not None and limit > FAR_BELOW * max(peaks)
    top = max([*peaks, *([limit] if limit is not None else [])])
    canvas.margins(left=58, right=20 if canvas.is_narrow else 120)
    canvas.scale("x", 0.0, 1.06 * max(sizes), log=False, label_width=38)
    if log:
        canvas.scale("y", *padded([*peaks, top], log=True, share=0.12), log=True)
    else:
        canvas.scale("y", 0.0, 1.1 * top, log=False)
    canvas.axis_labels("per-device batch size (examples)", "peak memory (GiB)")
    if band:
        x = [point["size"] for point in band]
        lo, hi = ([max(point[end] / GIB, 1e-6) for point in band] for end in ("lo", "hi"))
        axes.fill_between(x, lo, hi, color=color("accent"), alpha=0.2, lw=0)
        axes.plot(x, [point["value"] / GIB for point in band], color=color("accent"), lw=1.8)
    if limit is not None:
        ends = axes.get_xlim()
        margin = float(data["margin"])
        lines = [(limit, "capacity", "-")] + ([((1 - margin) * limit, f"{1 - margin:.0%}", "--")] if margin else [])
        for place, (level, name, style) in enumerate(lines):
            (line,) = axes.plot(ends, [level, level], color=color("muted"), lw=1.2, ls=style)
            canvas.hover(line, f"{name}: {level:.3g} GiB")
            dy = -5 if place and log else 0
            if canvas.is_narrow:
                canvas.label(ends[0], level, name, role="muted", dx=4, dy=-8 if place else 8)
            else:
                canvas.label(ends[1], level, f"{name}, {level:.3g} GiB", role="muted", dx=6, dy=dy)
    dots = axes.scatter([row["per_device_batch_size"] for row in ran], peaks, s=34, color=color("accent"), zorder=3)
    canvas.hover(
        dots,
        [
            f"{count(row['per_device_batch_size'])} per device: {peak:.3g} GiB"
            for row, peak in zip(ran, peaks, strict=True)
        ],
    )
    if failed:
        level = limit if limit is not None else top
        crosses = axes.scatter(
            [row["per_device_batch_size"] for row in failed],
            [level] * len(failed),
            s=44,
            marker="x",
            color=color("bad"),
            zorder=4,
        )
        canvas.hover(
            crosses,
            [f"{count(row['per_device_batch_size'])} per device: {_shown(row)['outcome']}" for row in failed],
        )
