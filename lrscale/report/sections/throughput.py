"""How fast each layout trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.canvas import Canvas, padded, spread, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, duration, finite, significant

COLUMNS = (
    Column(key="global_batch_size", label="global batch", kind="count"),
    Column(key="num_nodes", label="nodes", kind="count"),
    Column(key="devices", label="devices", kind="count"),
    Column(key="per_device_batch_size", label="per device", kind="count"),
    Column(key="accumulate", label="accumulation", kind="count"),
    Column(key="examples_per_second", label="examples / s", kind="count"),
    Column(key="step_p50", label="step, median", kind="duration"),
    Column(key="step_p90", label="step, 90 %", kind="duration"),
    Column(key="seconds_per_million_examples", label="time per 1M examples", kind="duration"),
)


@final
class ThroughputSection(AbstractSection):
    """Examples per second against the per-device batch, a line for each number of devices."""

    key: ClassVar[str] = "throughput"
    title: ClassVar[str] = "How fast does each layout train?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("throughput")
        if finding is None:
            return "Throughput was not measured in this study (experiments.throughput)."
        if not _measured(finding.data.get("rows", ())):
            return f"No throughput can be shown: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("throughput")
        assert finding is not None
        rows = tuple(sorted(finding.data["rows"], key=lambda row: (_ranks(row), row.get("per_device_batch_size") or 0)))
        figure = Figure.single(
            "speed",
            (Panel(draw=partial(_draw, rows=_measured(rows)), wide=(720, 320), narrow=(350, 290)),),
            alt=finding.sentence,
            caption="Measured over the steps after the first ones. Lines join layouts with the same number of devices.",
            points={"examples_per_second": [row.get("examples_per_second") for row in rows]},
        )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=(figure,),
            tables=(Table(key="layouts", caption="Layouts measured", columns=COLUMNS, rows=rows, sortable=True),),
            method=(
                "Short trials with the layout pinned: forward, backward, all-reduce and optimizer step as in any other "
                "trial. The layout changes the speed of a trial, not its result."
            ),
        )


def _ranks(row: Mapping[str, Any]) -> int:
    return int(row.get("devices") or 1) * int(row.get("num_nodes") or 1)


def _measured(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if finite(row.get("examples_per_second")) and row["examples_per_second"] > 0]


def _draw(canvas: Canvas, rows: Sequence[Mapping[str, Any]]) -> None:
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((_ranks(row), int(row.get("accumulate") or 1)), []).append(row)
    several = len({accumulate for _, accumulate in groups}) > 1
    names = {
        key: f"{key[0]} device{'s' if key[0] > 1 else ''}" + (f", x {key[1]}" if several else "") for key in groups
    }
    canvas.margins(left=58, right=20 + round(max(text_width(name) for name in names.values())))
    speeds = [float(row["examples_per_second"]) for row in rows]
    sizes = [float(row["per_device_batch_size"]) for row in rows]
    x_limits, limits = padded(sizes, log=True), padded(speeds, log=True, share=0.12)
    canvas.scale("x", *x_limits, log=True, label_width=38, at=sizes)
    canvas.scale("y", *limits, log=True)
    canvas.axis_labels("per-device batch size (examples)", "examples per second")
    ends = []
    for key, members in groups.items():
        ordered = sorted(members, key=lambda row: float(row["per_device_batch_size"]))
        x = [float(row["per_device_batch_size"]) for row in ordered]
        y = [float(row["examples_per_second"]) for row in ordered]
        canvas.axes.plot(x, y, color=color("accent"), lw=1.4, alpha=0.7)
        dots = canvas.axes.scatter(x, y, s=30, color=color("accent"), zorder=3)
        canvas.hover(
            dots,
            [
                f"{names[key]}, {count(row['per_device_batch_size'])} per device x "
                f"{count(row.get('accumulate') or 1)}: "
                f"{significant(row['examples_per_second'])} examples/s, step {duration(row.get('step_p50'))}"
                for row in ordered
            ],
        )
        ends.append((x[-1], y[-1], names[key]))
    _label_ends(canvas, ends, limits)


def _label_ends(canvas: Canvas, ends: Sequence[tuple[float, float, str]], limits: tuple[float, float]) -> None:
    import math

    height = canvas.height - 50
    places = [math.log(y / limits[0]) / math.log(limits[1] / limits[0]) * height for _, y, _ in ends]
    for (x, y, name), place, wanted in zip(ends, spread(places, gap=13, lo=0, hi=height), places, strict=True):
        canvas.label(x, y, name, dx=8, dy=place - wanted)
