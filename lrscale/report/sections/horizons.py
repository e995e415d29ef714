"""How the best LR and the loss move with the length of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.against import Against, figure_against
from lrscale.report.base import AbstractSection, Card, Column, Figure, LegendEntry, Table
from lrscale.report.canvas import Canvas, padded, wants_log
from lrscale.report.context import ReportContext
from lrscale.report.palette import color
from lrscale.report.words import count, finite, rate, significant

COLUMNS = (
    Column(key="source", label="measured by"),
    Column(key="examples", label="examples", kind="count"),
    Column(key="steps", label="steps", kind="count"),
    Column(key="best_lr", label="best LR (95 %)", kind="rate", lo="lr_lo", hi="lr_hi"),
    Column(key="loss", label="lowest loss (95 %)", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(key="runs", label="runs", kind="count"),
)
HELD_OUT = (
    Column(key="what", label="law of the"),
    Column(key="measured", label="measured", kind="number"),
    Column(key="predicted", label="predicted (95 %)", kind="number", lo="lo", hi="hi"),
    Column(key="miss", label="miss", kind="percent"),
)
LEGEND = (
    LegendEntry(mark="dot", label="cooldowns of a trunk"),
    LegendEntry(mark="ring", label="runs of their own"),
    LegendEntry(mark="fit", label="law, with its 95 % interval"),
)


@final
class HorizonsSection(AbstractSection):
    """Best LR and loss against the horizon, with the law, what it misses, and what sharing a trunk changes."""

    key: ClassVar[str] = "horizons"
    title: ClassVar[str] = "How do the best LR and the loss move with the length of training?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding(self.key)
        if finding is None:
            return "No horizons were compared in this study (experiments.horizons)."
        if not any(finite(row.get("best_lr")) for row in finding.data.get("rows", ())):
            return f"No horizon can be drawn: {finding.sentence}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding(self.key)
        assert finding is not None
        data = finding.data
        tables = [
            Table(key="horizons", caption="Each horizon", columns=COLUMNS, rows=tuple(data["rows"])),
        ]
        if finding.tables.get("held_out"):
            tables.append(
                Table(
                    key="held_out",
                    caption="The longest horizon, from the shorter ones",
                    columns=HELD_OUT,
                    rows=finding.tables["held_out"],
                )
            )
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=(_figure(data, finding.sentence),),
            tables=tuple(tables),
            checks=finding.checks,
            method=(
                "Each peak LR has a trunk that stays at it after one warm-up. At each horizon a branch takes over the "
                "trunk's weights, optimizer state and place in the data, and cools down "
                f"({data['cooldown'].replace('_', ' ')}, the last {data['cooldown_fraction']:.0%} of the horizon; "
                "Hägele et al. 2024, arXiv:2405.18392): up to rounding of the steps this is the run of its own with "
                f"the trunk's warm-up.{_cost(data)}\n\n"
                "What sharing changes: the warm-up is that of the shortest horizon, and all horizons see the same "
                "examples first, so that their losses are not independent. The best LR is searched at each horizon, "
                "from the shortest to the longest, and a trunk is trained as far as one of them asks for its LR. The "
                "law of the best LR is a power of the examples at this one batch size; at another it has another "
                "exponent (Bjorck et al. 2024, arXiv:2409.19913)."
            ),
        )


def _cost(data: Mapping[str, Any]) -> str:
    ratio = data["cost_ratio"]
    return "" if ratio is None else f" All of them took {ratio:.2f} of the examples of such runs at the same places."


def _figure(data: Mapping[str, Any], alt: str) -> Figure:
    monitor = str(data.get("monitor") or "loss")
    parts = {
        "Best LR": ("best_lr", "lr_lo", "lr_hi", data.get("lr_curve") or [], "best peak LR"),
        f"Lowest {monitor}": ("loss", "loss_lo", "loss_hi", data.get("loss_curve") or [], monitor),
    }
    return figure_against(
        "horizons",
        {title: partial(_draw, data=data, part=part) for title, part in parts.items()},
        alt=alt,
        caption=f"Batch {count(data['batch_size'])}. Bars are 95 % intervals.",
        legend=LEGEND,
        points={"rows": [dict(row) for row in data["rows"]]},
    )


def _draw(
    canvas: Canvas,
    against: Against,
    data: Mapping[str, Any],
    part: tuple[str, str, str, Sequence[Sequence[float]], str],
) -> None:
    key, lo_key, hi_key, curve, name = part
    axes, size = canvas.axes, float(data["batch_size"])
    rows = [row for row in data["rows"] if finite(row.get(key))]
    unit = size if against == "steps" else 1.0
    canvas.margins(left=62, right=16, top=12)
    values = [float(row[key]) for row in rows]
    is_lr = key == "best_lr"
    shown = list(values)
    for row in rows:
        ends = [float(row[end]) for end in (lo_key, hi_key) if finite(row.get(end))]
        # An interval of a loss can reach far beyond the losses; the axis follows the points.
        reach = max(values) - min(values) or abs(values[0])
        shown += [end for end in ends if is_lr or min(values) - reach <= end <= max(values) + reach]
    log = is_lr or (min(shown) > 0 and wants_log(shown))
    canvas.scale("x", *padded([row[against] for row in data["rows"]], log=True, share=0.1), log=True, label_width=44)
    canvas.scale("y", *padded(shown, log=log, share=0.1), log=log, label_width=44)
    canvas.axis_labels(against, name)
    if curve:
        places = [point[0] / unit for point in curve]
        axes.fill_between(
            places, [one[2] for one in curve], [one[3] for one in curve], color=color("accent"), alpha=0.12, lw=0
        )
        axes.plot(places, [one[1] for one in curve], color=color("accent"), lw=1.6)
    for row in rows:
        own = row["source"] != "trunk"
        tint = color("bad" if own else "ink")
        place = row[against] * (1.04 if own else 1.0)
        if finite(row.get(lo_key)) and finite(row.get(hi_key)):
            axes.plot([place, place], [row[lo_key], row[hi_key]], color=tint, lw=1.4)
        dot = axes.scatter(
            [place],
            [row[key]],
            s=34 if not own else 60,
            color="none" if own else tint,
            edgecolors=tint,
            linewidths=1.5,
            zorder=4,
        )
        text = rate(row[key]) if is_lr else significant(row[key])
        canvas.hover(dot, [f"{count(row[against])} {against}, {row['source']}: {text}"])
