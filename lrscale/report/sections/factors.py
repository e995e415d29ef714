"""How the best LR moves with other entries of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Column, Figure, Panel, Table
from lrscale.report.context import ReportContext
from lrscale.report.factor_plot import draw_factor, factor_legend, located
from lrscale.report.slice_plot import LEGEND, SliceData, SliceLimits, draw_slice
from lrscale.report.words import short

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
FENCE = 8.0
"""Multiple of the median excess over the lowest loss up to which losses decide the axes."""
METHOD = (
    "At each value of a factor the learning rate is searched for anew, with the same seeds and examples, while all "
    "other entries of the task stay as they are. Where every value is a positive number a power law goes through the "
    "optima, those at the edge of their rates as bounds. Values are compared at their own best learning rates, seed by "
    "seed, and ties are an answer (Holm 1979 over all pairs). The gap is the validation loss minus the mean training "
    "loss of the last tenth of the steps, at the best learning rate of each value."
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
            tables=tuple(
                Table(
                    key=f"levels-{place}",
                    caption=f"Values of {short(one.get('path'), 60)}",
                    columns=COLUMNS,
                    rows=tuple(one.get("levels", ())),
                )
                for place, one in enumerate(factors)
            ),
            method=METHOD,
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
