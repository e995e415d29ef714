"""Which groups of a table are drawn, and the switch between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from lrscale.report.base import FigureView, LegendEntry, Panel
from lrscale.report.words import short

if TYPE_CHECKING:
    from lrscale.sweep import GroupFit, SweepFit

MOST_DRAWN = 16
"""Groups with figures: 12 groups of 10 batch sizes make about 3 MB. Every group is in the tables."""
RUN_LEGEND = (
    LegendEntry(mark="dot", label="a run"),
    LegendEntry(mark="cross", label="diverged"),
    LegendEntry(mark="fit", label="fitted slice"),
    LegendEntry(mark="band", label="intervals of the fit and of the best LR"),
    LegendEntry(mark="bar", label="LRs that count as equally good"),
)
FENCE = 8.0
"""Excess over the lowest loss, in median excesses, above which a run is drawn on the upper edge."""
MOST_PANELS = 16
"""Batch sizes drawn for a group."""


class Labelled(Protocol):
    """A group of any kind of table."""

    @property
    def label(self) -> str:
        """Its values as people read them."""
        ...


def drawn_groups(fit: SweepFit) -> tuple[GroupFit, ...]:
    """Return the groups that figures show: those with an answer first where there are too many."""
    if len(fit.groups) <= MOST_DRAWN:
        return fit.groups
    ranked = sorted(range(len(fit.groups)), key=lambda place: (not fit.groups[place].ok, place))[:MOST_DRAWN]
    return tuple(fit.groups[place] for place in sorted(ranked))


def left_out(fit: SweepFit) -> str:
    """Return what the figures leave out, as a sentence for a caption; empty when nothing."""
    missing = len(fit.groups) - len(drawn_groups(fit))
    return f" {missing} of {len(fit.groups)} groups are in the tables only." if missing else ""


def switched(panels: Sequence[tuple[Labelled, tuple[Panel, ...]]]) -> tuple[FigureView, ...]:
    """Return a view for each group, chosen by a switch; a group without panels has none."""
    views = []
    taken: set[str] = set()
    for place, (group, own) in enumerate(panels):
        label = group_label(group)
        # Two long names may begin alike, and a switch tells its positions apart by their names.
        label = f"{label} ({place + 1})" if label in taken else label
        taken.add(label)
        if own:
            views.append(FigureView(key=f"group{place}", panels=own, choices=(("Group", label),)))
    return tuple(views)


def group_label(group: Labelled) -> str:
    """Return a group's name, short enough for a switch."""
    return short(group.label, 60)


def named(fit: SweepFit, group: GroupFit, text: str) -> str:
    """Return a sentence with the group that it is about, where there are several."""
    return f"{group_label(group)}: {text}" if len(fit.groups) > 1 else text


def thinned(sizes: Sequence[float], best: float | None) -> list[float]:
    """Return at most `MOST_PANELS` batch sizes, evenly spaced, the ends and the best among them.

    Examples
    --------
    >>> thinned([1, 2, 4], None)
    [1, 2, 4]
    >>> len(thinned(range(1, 100), 50)), 50 in thinned(range(1, 100), 50)
    (16, True)
    """
    if len(sizes) <= MOST_PANELS:
        return list(sizes)
    steps = MOST_PANELS - 1
    kept = {sizes[round(place * (len(sizes) - 1) / steps)] for place in range(MOST_PANELS)}
    if best is not None and best not in kept:
        inner = [size for size in kept if size not in (sizes[0], sizes[-1])]
        kept.remove(min(inner, key=lambda size: abs(size - best)))
        kept.add(best)
    return sorted(kept)
