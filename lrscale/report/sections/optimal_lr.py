"""How the best LR moves with the batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, LegendEntry, Panel, Table
from lrscale.report.canvas import Canvas, padded
from lrscale.report.context import ReportContext
from lrscale.report.fits import Curve, law_curve, local_slope, pair
from lrscale.report.map_plot import LEVELS, draw_map, map_rows
from lrscale.report.palette import color
from lrscale.report.sections.slices import scaling_slices
from lrscale.report.words import between, count, finite, rate, short, significant, with_interval

COMPETING = (
    ("linear", 1.0, "rule-a", "linear scaling (LR proportional to batch; Goyal et al. 2017)"),
    ("square root", 0.5, "rule-b", "square-root scaling (Krizhevsky 2014; Malladi et al. 2022)"),
    ("constant", 0.0, "rule-c", "one LR for all batch sizes"),
)
"""Scaling rules: name, exponent of the batch size, colour, meaning."""

LAW_COLUMNS = (
    Column(key="law", label="law"),
    Column(key="formula", label="formula"),
    Column(key="parameters", label="parameters"),
    Column(key="aicc", label="AICc", kind="number"),
    Column(key="loo", label="leave-one-out error (ln LR)", kind="number"),
    Column(key="verdict", label="verdict"),
)


SAME_SLOPE = 0.1
"""Slopes this near are not told apart, as in the fit: 15 % of the LR when the batch size quadruples."""

METHOD = (
    "Constant, square-root, linear, power, saturating and surge laws are fitted to the optima, each weighted by its "
    "variance; optima at the edge of their grid enter as bounds. The saturating law has the form of McCandlish et al. "
    "2018 (arXiv:1812.06162), the surge that of Li et al. 2024 (arXiv:2405.14578). The law is named by AICc and "
    "leave-one-out error; the band mixes the laws with a free slope by their posterior weights, since a fixed rule "
    "would assume what is to be predicted. A law says little outside the measured batch sizes."
)


@final
class OptimalLRSection(AbstractSection):
    """Optimal LR against batch on log axes, with the competing rules and the chosen law."""

    key: ClassVar[str] = "optimal_lr"
    title: ClassVar[str] = "How does the learning rate scale with the batch size?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("scaling")
        if finding is None:
            return "No scaling experiment was run in this study (experiments.scaling)."
        held = [row for row in measured_optima(finding.data) if finite(row["best_lr"])]
        if len(held) < 2:
            return (
                "An LR against batch size needs two batch sizes with their optimum inside the grid; there is "
                f"{len(held)}. "
                "Add batch sizes with `--set experiments.scaling.batch_sizes=[...]`."
            )
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("scaling")
        assert finding is not None
        rows = measured_optima(finding.data)
        law = finding.data.get("law")
        anchor = anchor_of(rows)
        target = context.recommended("global_batch_size")
        span = [float(row["batch_size"]) for row in rows] + ([float(target)] if finite(target) else [])
        grid = np.geomspace(min(span), max(span), 60)
        curve = law_curve(law, grid)
        figure = Figure.single(
            "law",
            (
                Panel(
                    draw=partial(draw_law, rows=rows, curve=curve, anchor=anchor, target=target),
                    wide=(720, 380),
                    narrow=(350, 330),
                ),
            ),
            alt=finding.sentence,
            caption=(
                "Bars are 95 % intervals. The rules start at the measured optimum of batch "
                f"{count(anchor['batch_size'])}. "
                "Arrows mark optima that lie beyond the measured LRs."
            ),
            legend=(
                LegendEntry(mark="dot", label="measured optimum"),
                LegendEntry(mark="fit", label=f"laws{law_name(law)} with their 95 % band"),
                *(LegendEntry(mark=role, label=meaning) for _, _, role, meaning in COMPETING),
            ),
            points={"measured": rows, "anchor": anchor},
        )
        slope = local_slope(law, float(target or anchor["batch_size"]))
        facts = (
            [Fact(term="Local slope", value=slope_words(slope, float(target or anchor["batch_size"])))] if slope else []
        )
        rules = rules_words(law)
        if rules:
            facts.append(Fact(term="Rules of thumb", value=rules))
        laws = finding.tables.get("laws") or ()
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            facts=tuple(facts),
            figures=(figure, *_map(context, finding.data.get("cells", ()))),
            tables=(Table(key="laws", caption="Laws compared", columns=LAW_COLUMNS, rows=tuple(law_table_rows(laws))),)
            if laws
            else (),
            method=METHOD,
        )


def _map(context: ReportContext, cells: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Return the map of LR and batch size, where two batch sizes have an optimum."""
    rows = map_rows(cells, scaling_slices(context))
    optima = [row for row in rows if row.best is not None]
    if len(optima) < 2:
        return ()
    levels = ", ".join(f"{100 * level:g} %" for level in LEVELS)
    path = "; ".join(f"{rate(row.best)} at batch {count(row.batch_size)}" for row in optima)
    return (
        Figure.single(
            "map",
            (
                Panel(
                    draw=partial(draw_map, rows=rows),
                    title="LR and batch size together",
                    wide=(600, 330),
                    narrow=(330, 300),
                ),
            ),
            alt=f"The best LR goes along {path}.",
            caption=f"Areas: LRs whose fitted loss is less than {levels} above the lowest of the same batch size, "
            "joined between the measured ones and cut at the measured LRs. Diamonds: best LRs with their 95 % "
            "interval. Dots: trials; crosses: those without a loss.",
            points={
                "map": [
                    [row.batch_size, row.best, *(list(ends) if ends else None for ends in row.within)] for row in rows
                ]
            },
        ),
    )


def slope_words(slope: tuple[float, float, float], batch_size: float) -> str:
    """Return the local slope as a sentence that says what doubling the batch does.

    Examples
    --------
    >>> slope_words((0.5, 0.4, 0.6), 256)
    'At batch 256, doubling the batch multiplies the best LR by 1.4 (1.3 to 1.5): close to square-root scaling.'
    """
    value, lo, hi = slope
    names = {"linear scaling": 1.0, "square-root scaling": 0.5, "no change": 0.0}
    inside = [name for name, exponent in names.items() if lo - SAME_SLOPE <= exponent <= hi + SAME_SLOPE]
    if len(inside) == 1:
        verdict = f"close to {inside[0]}"
    elif inside:
        verdict = f"the data do not separate {' from '.join(inside)}"
    else:
        verdict = "none of the usual rules holds here"
    return (
        f"At batch {count(batch_size)}, doubling the batch multiplies the best LR by {significant(2**value)} "
        f"({between(2**lo, 2**hi)}): {verdict}."
    )


def rules_words(law: Mapping[str, Any] | None) -> str:
    """Return where each rule of thumb survives, or nothing where no law was fitted.

    Examples
    --------
    >>> linear = {"rule": "linear", "slope": 1.0, "lo": 16.0, "hi": 64.0, "whole": False}
    >>> rules_words({"rules": [linear, {**linear, "rule": "constant", "lo": None, "hi": None}]})
    'Linear: not excluded from batch 16 to 64, excluded elsewhere. Constant: excluded everywhere.'
    """
    from lrscale.laws import RuleRange

    verdicts = {row["law"]: row["verdict"] for row in (law or {}).get("table", ())}
    texts = []
    for row in (law or {}).get("rules", ()):
        text = RuleRange(**row).text()
        if row["whole"] and verdicts.get(row["rule"]) == "ruled out":
            text += " one by one, yet ruled out over that whole range"
        texts.append(text)
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in texts)


def measured_optima(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the best LR of each batch size with its interval, ascending; of a censored one the ends of its grid."""
    rows = []
    for cell in data.get("cells", ()):
        fit = cell.get("slice") or {}
        lo, hi = pair(fit.get("interval"))
        rates = [float(lr) for lr in fit.get("lr") or () if finite(lr)]
        rows.append(
            {
                "batch_size": cell["batch_size"],
                "best_lr": fit.get("best_lr"),
                "lo": lo,
                "hi": hi,
                "status": str(fit.get("status") or ""),
                "smallest": min(rates, default=None),
                "largest": max(rates, default=None),
            }
        )
    return sorted(rows, key=lambda row: row["batch_size"])


def anchor_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the measured optimum that the rules start from: the smallest batch, as people apply them."""
    return next(row for row in rows if finite(row["best_lr"]))


def law_table_rows(laws: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table of laws, with names and parameters as text."""
    rows = []
    for law in laws:
        parameters = law.get("parameters")
        if isinstance(parameters, Mapping):
            parameters = [[name, value, None] for name, value in parameters.items()]
        if isinstance(parameters, (list, tuple)):
            parameters = ", ".join(_parameter(*part) for part in parameters if len(part) == 3)
        rows.append({**law, "law": str(law.get("law") or "").replace("_", " "), "parameters": parameters})
    return rows


def _parameter(name: Any, value: Any, interval: Any) -> str:
    number = float(value) if finite(value) else None
    return f"{short(name, 24)} {with_interval(number, *pair(interval))}"


def law_name(law: Any) -> str:
    """Return the name of the chosen law in brackets, or nothing."""
    name = law.get("law") if isinstance(law, Mapping) else None
    return f" ({name.replace('_', ' ')})" if isinstance(name, str) else ""


def draw_law(
    canvas: Canvas,
    rows: Sequence[Mapping[str, Any]],
    curve: Curve | None,
    anchor: Mapping[str, Any],
    target: Any,
    batch_label: str = "global batch size (examples)",
) -> None:
    """Draw the best LR against the batch size: measured optima, the law's band, the competing rules."""
    axes = canvas.axes
    canvas.margins(right=84 if not canvas.is_narrow else 76, left=56)
    held = [row for row in rows if finite(row["best_lr"])]
    sizes = [float(row["batch_size"]) for row in rows] + ([float(target)] if finite(target) else [])
    shown = [float(row[key]) for row in held for key in ("best_lr", "lo", "hi") if finite(row[key]) and row[key] > 0]
    if curve is not None:
        shown += [float(curve.y.min()), float(curve.y.max())]
        # The band too, unless it is so wide that it would press everything else flat.
        shown += [max(float(curve.lo.min()), min(shown) / 10), min(float(curve.hi.max()), max(shown) * 10)]
    limits = padded(shown, log=True, share=0.12)
    x_limits = padded(sizes, log=True, share=0.05)
    canvas.scale("x", *x_limits, log=True, label_width=38, at=sizes)
    canvas.scale("y", *limits, log=True)
    canvas.axis_labels(batch_label, "best peak LR")
    _draw_rules(canvas, anchor, x_limits, limits)
    if curve is not None:
        axes.fill_between(curve.x, curve.lo, curve.hi, color=color("accent"), alpha=0.2, lw=0)
        (line,) = axes.plot(curve.x, curve.y, color=color("accent"), lw=2)
        canvas.hover(line, "chosen law")
    for row in held:
        best = float(row["best_lr"])
        lo, hi = (float(row[key]) if finite(row[key]) else best for key in ("lo", "hi"))
        axes.plot([row["batch_size"]] * 2, [lo, hi], color=color("ink"), lw=1.6)
    dots = axes.scatter(
        [row["batch_size"] for row in held], [row["best_lr"] for row in held], s=34, color=color("ink"), zorder=4
    )
    canvas.hover(
        dots,
        [f"batch {count(row['batch_size'])}: {rate(row['best_lr'])} ({between(row['lo'], row['hi'])})" for row in held],
    )
    _draw_censored(canvas, rows, limits)
    if finite(target):
        axes.axvline(float(target), color=color("accent"), lw=1, dashes=(3, 2))
        left = float(target) < math.sqrt(x_limits[0] * x_limits[1])
        canvas.label(
            float(target),
            limits[0],
            "recommended",
            role="accent",
            align="left" if left else "right",
            dx=4 if left else -4,
            dy=8,
        )


def _draw_rules(
    canvas: Canvas, anchor: Mapping[str, Any], x_limits: tuple[float, float], limits: tuple[float, float]
) -> None:
    start, best = float(anchor["batch_size"]), float(anchor["best_lr"])
    for name, exponent, role, _ in COMPETING:
        # Each line ends where it leaves the figure, and carries its name there.
        end = x_limits[1]
        if exponent:
            end = min(end, start * (limits[1] / best) ** (1 / exponent))
        y = best * (end / start) ** exponent
        (line,) = canvas.axes.plot(
            [start, end], [best, y], color=color(role), lw=1.2, dashes=(2, 2) if exponent == 0 else (5, 3), zorder=1
        )
        canvas.hover(line, f"{name} scaling from batch {count(start)}")
        at_right = end > 0.98 * x_limits[1]
        canvas.label(end, y, name, role=role, align="left", dx=4, dy=0 if at_right else -2)


def _draw_censored(canvas: Canvas, rows: Sequence[Mapping[str, Any]], limits: tuple[float, float]) -> None:
    for row in rows:
        if finite(row["best_lr"]) or not finite(row["largest"]):
            continue
        below = "below" in row["status"] or "low" in row["status"]
        edge = float(row["smallest"] if below else row["largest"])
        if not math.isfinite(edge):
            continue
        place = min(max(edge, limits[0]), limits[1])
        mark = canvas.axes.scatter(
            [row["batch_size"]],
            [place],
            marker="v" if below else "^",
            s=40,
            color=color("bad"),
            zorder=4,
            clip_on=False,
        )
        canvas.hover(mark, f"batch {count(row['batch_size'])}: optimum {'below' if below else 'above'} {rate(edge)}")
