"""A pair of axes in the report's style: margins in pixels, 1-2-5 ticks, direct labels, hover titles.

Ticks, grid and axis names are drawn as a few collections and texts. matplotlib's own axes make three artists for every
tick, which takes half of the time of a report with its dozens of small panels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from lrscale.report.palette import color
from lrscale.report.words import short, tick

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FONT = 11
"""Size of all text in a figure, in CSS pixels."""
_CHARACTER = 6.4
"""Mean width of a character at that size, in CSS pixels; wide enough for common sans-serif fonts."""

Align = Literal["left", "center", "right"]


@final
class Canvas:
    """Axes to draw one panel on.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Empty axes.
    size : tuple of int
        Width and height of the panel in CSS pixels.
    """

    def __init__(self, axes: Axes, size: tuple[int, int]) -> None:
        self.axes = axes
        self.width, self.height = size
        self.titles: dict[str, str | list[str]] = {}
        self.classes: dict[str, str] = {}
        self._ticks: dict[str, tuple[list[float], list[float]]] = {}
        self._names: tuple[str, str] = ("", "")
        axes.set_axis_off()
        axes.set_autoscale_on(False)
        self._without_ticks()
        self.margins()

    @property
    def is_narrow(self) -> bool:
        """Whether the panel is drawn for a narrow screen."""
        return self.width < 500

    def margins(self, left: int = 52, right: int = 14, top: int = 10, bottom: int = 40) -> None:
        """Set the room around the axes, in pixels."""
        self._left, self._inner = left, (self.width - left - right, self.height - top - bottom)
        share = self._inner[0] / self.width, self._inner[1] / self.height
        self.axes.set_position((left / self.width, bottom / self.height, *share))

    def hover(self, artist: Artist, text: str | Sequence[str]) -> None:
        """Give a mark a title that shows on hovering; a list gives one to each point of a scatter plot, in order."""
        name = f"hover{len(self.titles)}"
        artist.set_gid(name)
        self.titles[name] = text if isinstance(text, str) else list(text)

    def mark(self, artist: Artist, css_class: str) -> None:
        """Give a mark a class of the style sheet."""
        name = f"class{len(self.classes)}"
        artist.set_gid(name)
        self.classes[name] = css_class

    def label(self, x: float, y: float, text: str, *, role: str = "ink", align: Align = "left", **where: Any) -> None:
        """Write a direct label at a data point, offset by `dx` and `dy` pixels, with a halo in the card's colour."""
        offset = (where.pop("dx", 0), where.pop("dy", 0))
        note = self.axes.annotate(
            short(text, 60),
            (x, y),
            xytext=offset,
            textcoords="offset pixels",
            color=color(role),
            ha=align,
            va=where.pop("va", "center"),
            annotation_clip=False,
            **where,
        )
        self.mark(note, "halo")

    def axis_labels(self, x: str = "", y: str = "") -> None:
        """Name the axes."""
        self._names = (short(x, 60), short(y, 40))

    def scale(
        self,
        axis: Literal["x", "y"],
        lo: float,
        hi: float,
        *,
        log: bool,
        label_width: int = 34,
        at: Sequence[float] | None = None,
    ) -> None:
        """Set limits, scale and ticks of one axis.

        `at` puts the ticks at values of the data where all of them have room; empty, there are none.
        """
        room = self._inner[0] if axis == "x" else self._inner[1]
        places = max(2, int(room / (label_width if axis == "x" else 26)))
        ticks, minor = log_ticks(lo, hi, places) if log else (linear_ticks(lo, hi, places), [])
        if at is not None and not at:
            ticks, minor = [], []
        elif at and log and _fits(at, lo, hi, room, label_width):
            ticks, minor = sorted(set(at)), []
        if log:
            (self.axes.set_xscale if axis == "x" else self.axes.set_yscale)("log")
            self._without_ticks()
        self._ticks[axis] = (ticks, minor)
        (self.axes.set_xlim if axis == "x" else self.axes.set_ylim)(lo, hi)

    def finish(self) -> None:
        """Draw grid, ticks, their labels and the names of the axes; call it once, after the data."""
        width, height = self._inner
        axes, axis, muted = self.axes, color("axis"), color("muted")
        across, up = axes.get_xaxis_transform(), axes.get_yaxis_transform()
        if "x" in self._ticks:
            ticks, minor = self._ticks["x"]
            self._lines([((x, 0), (x, 1)) for x in ticks], across, color("grid"), 0.5)
            marks = [((x, 0), (x, -3 / height)) for x in ticks] + [((x, 0), (x, -2 / height)) for x in minor]
            self._lines(marks, across, axis, 2.5)
            self._lines([((0, 0), (1, 0))], axes.transAxes, axis, 2.5)
            for x in ticks:
                axes.text(x, -6 / height, tick(x), transform=across, ha="center", va="top", color=muted)
        if "y" in self._ticks:
            ticks, minor = self._ticks["y"]
            self._lines([((0, y), (1, y)) for y in ticks], up, color("grid"), 0.5)
            sides = [((0, y), (-3 / width, y)) for y in ticks] + [((0, y), (-2 / width, y)) for y in minor]
            self._lines(sides, up, axis, 2.5)
            self._lines([((0, 0), (0, 1))], axes.transAxes, axis, 2.5)
            for y in ticks:
                axes.text(-6 / width, y, tick(y), transform=up, ha="right", va="center_baseline", color=muted)
        x_name, y_name = self._names
        if x_name:
            axes.text(0.5, -23 / height, x_name, transform=axes.transAxes, ha="center", va="top", color=muted)
        if y_name:
            place = -(self._left - 8) / width
            axes.text(place, 0.5, y_name, transform=axes.transAxes, ha="center", va="center", rotation=90, color=muted)

    def _without_ticks(self) -> None:
        # seaborn looks at the tick labels even of axes that are off, and that makes all of them.
        from matplotlib.ticker import NullLocator

        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.set_major_locator(NullLocator())
            axis.set_minor_locator(NullLocator())

    def _lines(self, segments: Sequence[Any], transform: Any, tint: str, zorder: float) -> None:
        from matplotlib.collections import LineCollection

        lines = LineCollection(segments, colors=tint, linewidths=0.8, transform=transform, zorder=zorder, clip_on=False)
        self.axes.add_collection(lines, autolim=False)


def log_ticks(lo: float, hi: float, places: int) -> tuple[list[float], list[float]]:
    """Return labelled and unlabelled ticks of a log axis: 1-2-5 where they fit, else 1-3, decades, or fewer.

    Examples
    --------
    >>> log_ticks(0.8, 12.0, 6)
    ([1.0, 2.0, 5.0, 10.0], [])
    >>> log_ticks(0.6, 2.4, 6), log_ticks(1.1, 1.4, 4)
    (([0.6, 0.8, 1.0, 1.5, 2.0], []), ([1.1, 1.2, 1.3, 1.4], []))
    >>> log_ticks(1e-5, 1.0, 4)[0]
    [1e-05, 0.001, 0.1]
    """
    first, last = math.floor(math.log10(lo)), math.ceil(math.log10(hi))
    fine = _within([m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)], lo, hi)
    if len(fine) < 4 and hi / lo < 12:
        for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5)):
            dense = _within([m * 10.0**k for k in range(first, last + 1) for m in steps], lo, hi)
            if 3 <= len(dense) <= places:
                return dense, []
        return [float(value) for value in linear_ticks(lo, hi, places) if value > 0], []
    if len(fine) <= places:
        return fine, []
    coarse = _within([m * 10.0**k for k in range(first, last + 1) for m in (1, 3)], lo, hi)
    if len(coarse) <= places:
        return coarse, fine
    decades = _within([10.0**k for k in range(first, last + 1)], lo, hi)
    return decades[:: max(1, math.ceil(len(decades) / places))], decades


def linear_ticks(lo: float, hi: float, places: int) -> list[float]:
    """Return round ticks of a linear axis.

    Examples
    --------
    >>> linear_ticks(0.0, 1000.0, 5)
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
    """
    span = hi - lo
    step = 10.0 ** math.floor(math.log10(span / places))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= places:
            step *= factor
            break
    values = np.arange(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1) * step
    return [float(round(value, 12)) for value in values]


def spread(positions: Sequence[float], gap: float, lo: float, hi: float) -> list[float]:
    """Move labels apart so that neighbours keep a gap, as little as that takes, within bounds.

    Examples
    --------
    >>> spread([10.0, 11.0, 50.0], gap=10, lo=0, hi=100)
    [5.5, 15.5, 50.0]
    """
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []
    for place in order:
        groups.append([float(positions[place]), 1.0])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (centre, size), (before, held) = groups.pop(), groups.pop()
            groups.append([(centre * size + before * held) / (size + held), size + held])
    placed: list[float] = []
    for centre, size in groups:
        placed += [centre + gap * (step - (size - 1) / 2) for step in range(int(size))]
    for index, place in enumerate(placed):
        placed[index] = max(place, lo if index == 0 else placed[index - 1] + gap)
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], hi if index == len(placed) - 1 else placed[index + 1] - gap)
    moved = [0.0] * len(positions)
    for index, place in zip(order, placed, strict=True):
        moved[int(index)] = place
    return moved


def padded(values: Sequence[float], *, log: bool, share: float = 0.06) -> tuple[float, float]:
    """Return limits that hold all values with some air.

    Examples
    --------
    >>> padded([0.0, 10.0], log=False)
    (-0.6, 10.6)
    """
    lo, hi = min(values), max(values)
    if log:
        air = math.log(hi / lo) * share or math.log(1.5)
        return lo * math.exp(-air), hi * math.exp(air)
    air = (hi - lo) * share or abs(hi) * share or 1.0
    return lo - air, hi + air


def wants_log(values: Sequence[float], ratio: float = 4.0) -> bool:
    """Return whether losses spread so far that only a log axis shows them all."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > ratio


def text_width(text: str) -> float:
    """Return about how many pixels a label takes."""
    return _CHARACTER * len(text)


def _fits(values: Sequence[float], lo: float, hi: float, room: float, label_width: int) -> bool:
    places = [math.log(value / lo) / math.log(hi / lo) * room for value in sorted(set(values))]
    return all(after - before >= label_width for before, after in itertools.pairwise(places))


def _within(values: list[float], lo: float, hi: float) -> list[float]:
    return [float(f"{value:.1e}") for value in values if lo * (1 - 1e-9) <= value <= hi * (1 + 1e-9)]
