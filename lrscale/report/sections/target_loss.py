"""Which batch size reaches a loss soonest, or at the least price."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, final

from pydantic import ValidationError
from typing_extensions import override

from lrscale.laws.separable_fit import Estimate
from lrscale.laws.steps import ParetoPoint, StepsFit
from lrscale.recipe import Recipe
from lrscale.recipe.amounts import Price
from lrscale.recipe.experiments import Target
from lrscale.recommend.measured import Speeds, scaling_cells
from lrscale.recommend.to_target import WayToTarget, to_target_sentence, way_to_target
from lrscale.report.base import AbstractSection, Card, Column, Fact, Figure, Panel, Table
from lrscale.report.context import ReportContext
from lrscale.report.pareto_plot import PARETO_LEGEND, draw_pareto
from lrscale.report.steps_plot import STEPS_LEGEND, draw_steps
from lrscale.study.target_loss import KEY

POINTS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="steps", label="steps", kind="count", lo="steps_lo", hi="steps_hi"),
    Column(key="step_seconds", label="a step", kind="duration"),
    Column(key="seconds", label="time (s)", kind="number", lo="seconds_lo", hi="seconds_hi"),
    Column(key="examples", label="examples", kind="count", lo="examples_lo", hi="examples_hi"),
    Column(key="devices", label="devices", kind="count"),
    Column(key="device_hours", label="device-hours", kind="number"),
    Column(key="money", label="price"),
    Column(key="front", label="worth choosing"),
    Column(key="front_share", label="in draws", kind="percent"),
)
RUNS = (
    Column(key="batch_size", label="batch", kind="count"),
    Column(key="lr", label="LR, soonest", kind="rate"),
    Column(key="seed", label="seed", kind="count"),
    Column(key="steps", label="steps", kind="count"),
    Column(key="ended", label="at the loss"),
    Column(key="trial_id", label="trial"),
)
_ENDED = {0: "reached", 1: "not reached", -1: "before the first validation"}


@final
class TargetLossSection(AbstractSection):
    """Steps against batch size with the hyperbola, and time against examples with the best point."""

    key: ClassVar[str] = "target_loss"
    title: ClassVar[str] = "Which batch size reaches a loss soonest?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        data = _data(context)
        if data is None:
            return (
                "Steps to a loss were not asked for: name `target.loss`, and train `experiments.scaling` under a "
                "constant schedule at three batch sizes or more."
            )
        if data.get("fit") is None:
            needs = "" if not data.get("needs") else f" To tell: {data['needs']}."
            return f"{data.get('reason')}{needs}"
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        data = _data(context)
        assert data is not None
        fit = StepsFit.from_dict(data["fit"])
        reason = str(data["reason"])
        found = _way(context, data)
        best = ""
        notes: tuple[str, ...] = ()
        figures = [
            Figure.single(
                "steps",
                (
                    Panel(
                        draw=partial(draw_steps, fit=fit, batch_label="global batch size (examples)"),
                        wide=(720, 330),
                        narrow=(350, 300),
                    ),
                ),
                alt=reason,
                caption=f"Steps to loss {data['target']:.4g}, at each batch size with the LR that is soonest there. "
                "Left of the band steps fall as 1 / batch for the same examples; right of it a larger batch saves few.",
                legend=STEPS_LEGEND,
                points={"steps": [[row["batch_size"], row["steps"], row["censored"]] for row in data["runs"]]},
            )
        ]
        tables = []
        if isinstance(found, str):
            # What the law itself says is the finding already.
            notes = () if found == reason else (found,)
        else:
            way, recipe = found
            best = to_target_sentence(way, recipe.target or Target())
            figures.append(_pareto_figure(way, best))
            tables.append(_points_table(way, recipe.cost.price))
        runs = tuple({**row, "ended": _ENDED.get(row.get("censored"), "unknown")} for row in data["runs"])
        tables.append(Table(key="runs", caption="Runs that the law stands on", columns=RUNS, rows=runs, open=False))
        return Card(
            key=self.key,
            title=self.title,
            finding=f"{best} {reason}".strip(),
            status="ok" if best else "cannot_tell",
            facts=(Fact(term="Loss", value=f"{data['target']:.4g}, {data.get('rule')}"),),
            figures=tuple(figures),
            tables=tuple(tables),
            notes=notes,
            method=(
                "Steps = S_min + E_min / batch on log steps (McCandlish et al. 2018, arXiv:1812.06162), the LR "
                "tuned at each batch size (Shallue et al. 2018, arXiv:1811.03600). Steps are read where the "
                "smoothed validation loss of a run under a constant LR comes down to the loss; runs that do not are "
                "one-sided terms. A run that decays its LR would reach a lower loss in the same steps: compare "
                "batch sizes here, not losses with other schedules. Intervals are those of the steps; the error of "
                "the step times counts in how often the best one is the best. This is another question than the "
                "lowest loss at equal examples."
            ),
        )


def _data(context: ReportContext) -> Mapping[str, Any] | None:
    finding = context.finding("scaling")
    data = None if finding is None else finding.data.get(KEY)
    return data if isinstance(data, Mapping) else None


def _way(context: ReportContext, data: Mapping[str, Any]) -> tuple[WayToTarget, Recipe] | str:
    """Return what the loss takes at each batch size, and the recipe that says so; or why that cannot be told."""
    finding = context.finding("scaling")
    assert finding is not None
    try:
        recipe = Recipe.model_validate(dict(context.recipe))
    except ValidationError:  # of an older study: its laws can be shown, its layout is not known
        return "The study's recipe cannot be read, so that the layout of each batch size and its time are not known."
    sizes = [cell.batch_size for cell in scaling_cells(finding)]
    way = way_to_target(recipe, data, sizes, Speeds.of(context.findings, context.view))
    return way if isinstance(way, str) else (way, recipe)


def _pareto_figure(way: WayToTarget, sentence: str) -> Figure:
    points = way.pareto.points
    return Figure.single(
        "pareto",
        (Panel(draw=partial(draw_pareto, points=points, best=way.batch_size), wide=(720, 330), narrow=(350, 300)),),
        alt=sentence,
        caption="What each batch size takes to the loss, on the layout that it would be recommended with. Time and "
        "examples are both proportional to the steps, so that their intervals lie on a line.",
        legend=PARETO_LEGEND,
        points={
            "points": [
                [point.batch_size, point.examples.value, point.seconds.value, point.on_front] for point in points
            ]
        },
    )


def _points_table(way: WayToTarget, price: Price | None) -> Table:
    rows = []
    for point in way.pareto.points:
        hours = (point.cost.value or 0.0) / 3600
        rows.append(
            {
                "batch_size": point.batch_size,
                "step_seconds": point.seconds_per_step,
                **_with_ends("steps", point.steps),
                **_with_ends("seconds", point.seconds),
                **_with_ends("examples", point.examples),
                "devices": round((point.cost.value or 0.0) / point.seconds.value) if point.seconds.value else None,
                "device_hours": hours,
                "money": "" if price is None else price.of(hours),
                "front": _standing(point, way),
                "front_share": point.front_share,
            }
        )
    columns = tuple(column for column in POINTS if column.key != "money" or price is not None)
    return Table(key="points", caption="What each batch size takes", columns=columns, rows=tuple(rows))


def _standing(point: ParetoPoint, way: WayToTarget) -> str:
    if point.batch_size == way.batch_size:
        return "best"
    return "yes" if point.on_front else "no"


def _with_ends(name: str, one: Estimate) -> dict[str, float | None]:
    lo, hi = (None, None) if one.interval is None else (one.interval.lo, one.interval.hi)
    return {name: one.value, f"{name}_lo": lo, f"{name}_hi": hi}
