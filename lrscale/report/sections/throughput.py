"""How fast each layout trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded, spread, text_width
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.step_parts_plot import draw_parts
from lrscale.report.words import count, duration, finite, short, significant

COLUMNS = (
    Column(key="global_batch_size", label="global batch", kind="count"),
    Column(key="num_nodes", label="nodes", kind="count"),
    Column(key="devices", label="devices", kind="count"),
    Column(key="per_device_batch_size", label="per device", kind="count"),
    Column(key="accumulate", label="accumulation", kind="count"),
    Column(key="examples_per_second", label="examples / s", kind="count", lo="lo", hi="hi"),
    Column(key="step_p50", label="step, median", kind="duration"),
    Column(key="step_p90", label="step, 90 %", kind="duration"),
    Column(key="data_share", label="waits for data", kind="percent"),
    Column(key="sync_share", label="waits for ranks", kind="percent"),
    Column(key="seconds_per_million_examples", label="time per 1M examples", kind="duration"),
)
TARGETS = (
    Column(key="global_batch_size", label="global batch", kind="count"),
    Column(key="devices", label="devices", kind="count"),
    Column(key="per_device_batch_size", label="per device", kind="count"),
    Column(key="accumulate", label="accumulation", kind="count"),
    Column(key="examples_per_second", label="examples / s", kind="count", lo="lo", hi="hi"),
    Column(key="how", label="how known"),
)
SCALE_OUT = (
    Column(key="ranks", label="devices", kind="count"),
    Column(key="per_device_batch_size", label="per device", kind="count"),
    Column(key="global_batch_size", label="global batch", kind="count"),
    Column(key="examples_per_second", label="examples / s, predicted", kind="count", lo="lo", hi="hi"),
)
PARTS = ("data_share", "sync_share")


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
        measured = _measured(rows)
        knees = finding.data.get("knees", ())
        figures = [
            Figure.single(
                "speed",
                (
                    Panel(
                        draw=partial(_draw, rows=measured, knees=knees, curves=finding.data.get("curves", ())),
                        wide=(720, 320),
                        narrow=(350, 290),
                    ),
                ),
                alt=finding.sentence,
                caption="Measured over the steps after the first ones, with 95 % intervals. "
                + (
                    "Bands are the model of the step's time."
                    if finding.data.get("curves")
                    else "Lines join layouts with the same number of devices."
                ),
                legend=(LegendEntry(mark="ring", label="knee: from here on larger batches hardly train faster"),)
                if any(not knee["at_edge"] for knee in knees)
                else (),
                points={"examples_per_second": [row.get("examples_per_second") for row in rows]},
            )
        ]
        split = [row for row in measured if all(finite(row.get(part)) for part in PARTS)]
        if split:
            height = 62 + 24 * len(split)
            figures.append(
                Figure.single(
                    "parts",
                    (Panel(draw=partial(draw_parts, rows=split), wide=(720, height), narrow=(350, height)),),
                    alt="Shares of a step: computing, waiting for data, and waiting for the other ranks, by layout.",
                    caption="Where the time of a step goes, as a mean over ranks.",
                    legend=(
                        LegendEntry(mark="part-compute", label="computes"),
                        LegendEntry(mark="part-data", label="waits for data"),
                        LegendEntry(mark="part-sync", label="waits for other ranks"),
                    ),
                    points={part: [row[part] for row in split] for part in PARTS},
                )
            )
        columns = tuple(
            column
            for column in COLUMNS
            if column.key not in ("num_nodes", "accumulate") or any(int(row.get(column.key) or 1) > 1 for row in rows)
        )
        tables = [Table(key="layouts", caption="Layouts measured", columns=columns, rows=rows, sortable=True)]
        for key, caption, shown in (
            ("targets", "Fastest layout for a global batch", TARGETS),
            ("scale_out", "What more devices would train over the same interconnect", SCALE_OUT),
        ):
            if finding.tables.get(key):
                tables.append(Table(key=key, caption=caption, columns=shown, rows=tuple(finding.tables[key])))
        law = finding.data.get("law") or {}
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=tuple(figures),
            tables=tuple(tables),
            notes=(f"Model of the step's time: {short(law['reason'], 300)}.",) if law.get("reason") else (),
            method=(
                "Short trials with the layout pinned: forward, backward, all-reduce and optimizer step as in any other "
                "trial. The layout changes the speed of a trial, not its result. A rank waits for data from the end of "
                "one forward and backward to the start of the next, and for the others from its last gradient to the "
                "end of its backward."
            ),
        )


def _ranks(row: Mapping[str, Any]) -> int:
    return int(row.get("devices") or 1) * int(row.get("num_nodes") or 1)


def _measured(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if finite(row.get("examples_per_second")) and row["examples_per_second"] > 0]


def _draw(
    canvas: Canvas,
    rows: Sequence[Mapping[str, Any]],
    knees: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]],
) -> None:
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((_ranks(row), int(row.get("accumulate") or 1)), []).append(row)
    several = len({accumulate for _, accumulate in groups}) > 1
    names = {
        key: f"{key[0]} device{'s' if key[0] > 1 else ''}" + (f", x {key[1]}" if several else "") for key in groups
    }
    canvas.margins(left=58, right=20 + round(max(text_width(name) for name in names.values())))
    speeds = [float(row["examples_per_second"]) for row in rows]
    ends_of = [float(row[end]) for row in rows for end in ("lo", "hi") if finite(row.get(end))]
    sizes = [float(row["per_device_batch_size"]) for row in rows]
    x_limits, limits = padded(sizes, log=True), padded([*speeds, *ends_of], log=True, share=0.12)
    canvas.scale("x", *x_limits, log=True, label_width=38, at=sizes)
    canvas.scale("y", *limits, log=True)
    canvas.axis_labels("per-device batch size (examples)", "examples per second")
    ends = []
    for key, members in groups.items():
        ordered = sorted(members, key=lambda row: float(row["per_device_batch_size"]))
        x = [float(row["per_device_batch_size"]) for row in ordered]
        y = [float(row["examples_per_second"]) for row in ordered]
        model = [point for point in curves if point["ranks"] == key[0]] if key[1] == 1 else []
        _draw_model(canvas, model)
        if not model:
            canvas.axes.plot(x, y, color=color("accent"), lw=1.4, alpha=0.7)
        for row in ordered:
            if finite(row.get("lo")) and finite(row.get("hi")):
                place = [float(row["per_device_batch_size"])] * 2
                canvas.axes.plot(place, [row["lo"], row["hi"]], color=color("accent"), lw=1.4)
        knee = next((one for one in knees if one["ranks"] == key[0] and not one["at_edge"]), None)
        at = next((row for row in ordered if knee and row["per_device_batch_size"] == knee["size"]), None)
        if at is not None and key[1] == 1:
            canvas.axes.scatter(
                [at["per_device_batch_size"]],
                [at["examples_per_second"]],
                s=110,
                facecolors="none",
                edgecolors=color("ink"),
                linewidths=1.5,
                zorder=4,
            )
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


def _draw_model(canvas: Canvas, points: Sequence[Mapping[str, Any]]) -> None:
    if not points:
        return
    x = [point["size"] for point in points]
    if all(finite(point["lo"]) and finite(point["hi"]) for point in points):
        lo, hi = ([point[end] for point in points] for end in ("lo", "hi"))
        canvas.axes.fill_between(x, lo, hi, color=color("accent"), alpha=0.15, lw=0)
    canvas.axes.plot(x, [point["value"] for point in points], color=color("accent"), lw=1.2, alpha=0.8)


def _label_ends(canvas: Canvas, ends: Sequence[tuple[float, float, str]], limits: tuple[float, float]) -> None:
    import math

    height = canvas.height - 50
    places = [math.log(y / limits[0]) / math.log(limits[1] / limits[0]) * height for _, y, _ in ends]
    for (x, y, name), place, wanted in zip(ends, spread(places, gap=13, lo=0, hi=height), places, strict=True):
        canvas.label(x, y, name, dx=8, dy=place - wanted)
