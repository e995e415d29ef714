"""How the best LR moves with other entries of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.parametrisation.coordinates import JUDGED
from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.context import ReportContext
from lrscale.report.coordinate_plot import COORDINATE_LEGEND, MOST_PANELS, CoordinateLimits, draw_part
from lrscale.report.factor_plot import draw_factor, factor_legend, located
from lrscale.report.slice_plot import LEGEND, SliceData, SliceLimits, draw_slice
from lrscale.report.words import rate, short

COLUMNS = (
    Column(key="label", label="value"),
    Column(key="best_lr", label="best LR (95 %)", kind="rate", lo="lo", hi="hi"),
    Column(key="loss", label="loss at best (95 %)", kind="loss", lo="loss_lo", hi="loss_hi"),
    Column(key="difference", label="to the lowest", kind="number", lo="difference_lo", hi="difference_hi"),
    Column(key="verdict", label="verdict"),
    Column(key="gap", label="validation minus training", kind="number", lo="gap_lo", hi="gap_hi"),
    Column(key="trials_count", label="trials", kind="count"),
    Column(key="status", label="fit", kind="status"),
)
PREDICTED = (
    Column(key="name", label="parametrisation"),
    Column(key="power", label="power of the width in the best LR", kind="number"),
    Column(key="verdict", label="verdict"),
)
PARTS = (
    Column(key="name", label="part"),
    Column(key="type", label="type"),
    Column(key="initial", label="power initially", kind="number"),
    Column(key="power", label="after the first updates (95 %)", kind="number", lo="lo", hi="hi"),
    Column(key="drift", label="verdict"),
)
FENCE = 8.0
"""Multiple of the median excess over the lowest loss up to which losses decide the axes."""
METHOD = (
    "At each value of a factor the learning rate is searched for anew, with the same seeds and examples, while all "
    "other entries of the task stay as they are. Where every value is a positive number a power law goes through the "
    "optima, those at the edge of their rates as bounds. Values are compared at their own best learning rates, seed by "
    "seed, and ties are an answer (Holm 1979 over all pairs). The gap is the validation loss minus the mean training "
    "loss of the last tenth of the steps, at the best learning rate of each value."
)


WIDTH_METHOD = (
    "\n\nFor a width the power of the best learning rate stands beside those of theory: none under the maximal update "
    "parametrisation, -1 for hidden matrices under Adam in the standard one (Yang et al. 2022, arXiv:2203.03466). "
    "Which of them the module has shows in the coordinate check of the same source: short trials of every width at one "
    "constant learning rate, where forward hooks read the mean absolute output of every part. A part grows where the "
    "power of the width in it, averaged over the forwards after the first three updates, is above 0.2 among all parts "
    "(Student's t over seeds, Holm 1979). Later the loss has answered, and a module that outgrew its width shrinks."
)


@final
class FactorsSection(AbstractSection):
    """Best LR against each factor, the slices of its values, and the table that compares them."""

    key: ClassVar[str] = "factors"
    title: ClassVar[str] = "How does the best learning rate move with other settings?"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        finding = context.finding("factors")
        if finding is None:
            return (
                "No other entry of the task was crossed with the learning rate: `experiments.factors: {width: [64, "
                "128]}` does that."
            )
        return None if finding.data.get("factors") else finding.sentence

    @override
    def compute(self, context: ReportContext) -> Card:
        finding = context.finding("factors")
        assert finding is not None
        factors = [one for one in finding.data["factors"] if isinstance(one, Mapping)]
        monitor = str(finding.data.get("monitor") or context.monitor)
        return Card(
            key=self.key,
            title=self.title,
            finding=finding.sentence,
            status="cannot_tell" if finding.status == "cannot_tell" else "ok",
            figures=tuple(figure for one in factors for figure in _figures(context, one, monitor)),
            tables=tuple(table for place, one in enumerate(factors) for table in _tables(place, one)),
            method=METHOD + (WIDTH_METHOD if any(one.get("parametrisation") for one in factors) else ""),
        )


def _tables(place: int, factor: Mapping[str, Any]) -> Iterator[Table]:
    yield Table(
        key=f"levels-{place}",
        caption=f"Values of {short(factor.get('path'), 60)}",
        columns=COLUMNS,
        rows=tuple(factor.get("levels", ())),
    )
    checked = factor.get("parametrisation")
    if not isinstance(checked, Mapping):
        return
    drift, check = checked.get("drift"), checked.get("coordinates")
    if isinstance(drift, Mapping):
        rows = [
            {**row, "verdict": "excluded" if row["excluded"] else "not excluded"}
            for row in drift["predictions"]
            # What theory says of Adam is no prediction for another optimizer.
            if checked.get("adaptive") or row["power"] == 0
        ]
        yield Table(
            key=f"predictions-{place}", caption="What theory says of the width", columns=PREDICTED, rows=tuple(rows)
        )
    if isinstance(check, Mapping):
        kinds = {part["name"]: part["type"] for part in checked["sizes"]["parts"]}
        rows = [{**part, "type": kinds.get(part["name"])} for part in check["parts"]]
        yield Table(
            key=f"parts-{place}", caption="Outputs against the width", columns=PARTS, rows=tuple(rows), open=False
        )


def _outputs(factor: Mapping[str, Any]) -> Figure | None:
    """Return the figure of the coordinate check: the parts that grow most first where not all have room."""
    checked = factor.get("parametrisation")
    check = checked.get("coordinates") if isinstance(checked, Mapping) else None
    if not isinstance(checked, Mapping) or not isinstance(check, Mapping):
        return None
    sizes, name = checked["sizes"], short(factor.get("name"), 24)
    powers = {part["name"]: part["power"] for part in check["parts"]}
    parts = list(sizes["parts"])
    if len(parts) > MOST_PANELS:
        most = sorted(parts, key=lambda part: -abs(powers.get(part["name"]) or 0.0))[:MOST_PANELS]
        parts = [part for part in parts if part in most]
    steps = 1 + JUDGED
    limits = CoordinateLimits.of(sizes["widths"], parts, steps)
    if limits is None:
        return None
    draw = partial(draw_part, widths=sizes["widths"], limits=limits, steps=steps, name=name)
    left_out = len(sizes["parts"]) - len(parts)
    caption = "All panels share both axes."
    if left_out:
        caption += f" {left_out} further parts, whose outputs move less, stand in the table."
    return Figure.single(
        f"{factor.get('name')}-outputs",
        tuple(
            Panel(draw=partial(draw, part=part), title=short(f"{part['name']} ({part['type']})", 40), wide=(250, 200))
            for part in parts
        ),
        alt=str(checked.get("sentence")),
        caption=f"{caption} Outputs at LR {rate(sizes['lr'])}, mean over seeds.",
        legend=COORDINATE_LEGEND,
        points={part["name"]: part["sizes"] for part in parts},
    )


def _figures(context: ReportContext, factor: Mapping[str, Any], monitor: str) -> Iterator[Figure]:
    name, sentence = str(factor.get("name")), str(factor.get("sentence"))
    if factor.get("numeric") and len(located(factor)) >= 2:
        yield Figure.single(
            f"{name}-law",
            (Panel(draw=partial(draw_factor, factor=factor), wide=(560, 300), narrow=(350, 280)),),
            alt=sentence,
            caption=f"Best peak LR against {short(name, 40)}.",
            legend=factor_legend(factor),
            points={level["label"]: [level["best_lr"], level["lo"], level["hi"]] for level in located(factor)},
        )
    outputs = _outputs(factor)
    if outputs is not None:
        yield outputs
    slices = [
        SliceData.of(
            short(level.get("label"), 40),
            [context.view.trials[one] for one in level.get("trials", ()) if one in context.view.trials],
            level["slice"],
        )
        for level in factor.get("levels", ())
        if level.get("slice")
    ]
    limits = SliceLimits.of(slices, fence=FENCE)
    if limits is not None:
        yield Figure.single(
            f"{name}-slices",
            tuple(
                Panel(draw=partial(draw_slice, data=data, limits=limits, monitor=monitor), title=data.title)
                for data in slices
            ),
            alt=sentence,
            caption="All panels share both axes; a triangle is a trial whose loss lies above them.",
            legend=LEGEND,
            points={data.title: [[one.lr, one.loss, one.status] for one in data.points] for data in slices},
        )
