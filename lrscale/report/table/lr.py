"""Loss against LR at every batch size of every group."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lrscale.report.base import Card, Column, Figure, Panel, Table
from lrscale.report.sections.slices import COLUMNS
from lrscale.report.slice_plot import SliceData, SliceLimits, draw_slice
from lrscale.report.table.groups import FENCE, RUN_LEGEND, drawn_groups, left_out, named, switched, thinned
from lrscale.report.words import count, plural

if TYPE_CHECKING:
    from lrscale.sweep import GroupFit, SweepFit


def slices_card(fit: SweepFit) -> Card:
    """Return small multiples of the slices, one set for each group, and their table."""
    rows: list[dict[str, Any]] = []
    for group in fit.groups:
        rows += [{"group": group.label, **row} for row in group.finding.tables["slices"]]
    inside = sum(row["best_lr"] is not None for row in rows)
    drawn = [(group, _panels(group)) for group in drawn_groups(fit)]
    views = switched(drawn)
    sentence = f"The optimum lies inside the LRs tried in {inside} of {plural(len(rows), 'slice')}."
    share = f"{100 * fit.confidence:g} %"
    columns = tuple(replace(column, label=column.label.replace("95 %", share)) for column in COLUMNS)
    grouped = (Column(key="group", label="group"),) if len(fit.groups) > 1 else ()
    figures = (
        Figure(
            key="slices",
            alt=sentence,
            views=views,
            caption=(
                "The panels of a group share both axes. Triangles are runs above them. Slices of hundreds of runs show "
                f"means of blocks.{left_out(fit)}"
            ),
            legend=RUN_LEGEND,
            points={row["group"]: row["batch_size"] for row in rows},
        ),
    )
    return Card(
        key="slices",
        title="Which learning rate at each batch size?",
        finding=sentence,
        status="ok" if inside else "cannot_tell",
        figures=figures if views else (),
        tables=(
            Table(
                key="slices",
                caption="Best LR by batch size",
                columns=(*grouped, *columns),
                rows=tuple(rows),
                sortable=True,
                open=len(rows) <= 30,
            ),
        ),
        notes=tuple(named(fit, group, note) for group in fit.groups for note in group.notes),
        method=(
            "The slice A·LR^-p + B·LR^q + C is fitted by variable projection (Golub and Pereyra 1973), with p and q "
            "from a grid; its minimum is the best LR. Runs that share a seed share a level of their own. Slices with "
            "few runs take the noise pooled over their group; slices with fewer than four LRs are fitted together, in "
            "one surface over LR and batch size. Diverged runs bound the slice from above and are never averaged. An "
            "optimum without a measured rise on both sides is censored and reported as a bound."
        ),
    )


def _panels(group: GroupFit) -> tuple[Panel, ...]:
    data = group.finding.data
    cells = {cell["batch_size"]: cell["slice"] for cell in data["cells"]}
    pieces = [
        SliceData.of(f"batch {count(size)}", (), cells[size]) for size in thinned(list(cells), data["best_batch_size"])
    ]
    limits = SliceLimits.of(pieces, fence=FENCE)
    if limits is None:
        return ()
    return tuple(
        Panel(draw=partial(draw_slice, data=piece, limits=limits, monitor=data["monitor"]), title=piece.title)
        for piece in pieces
    )
