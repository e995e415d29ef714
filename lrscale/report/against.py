"""Figures that are drawn against the examples seen and against the steps taken, by a switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from lrscale.report.base import Figure, FigureView, LegendEntry, Panel

Against = Literal["examples", "steps"]
AGAINST: tuple[Against, ...] = ("examples", "steps")


def figure_against(
    key: str,
    panels: Mapping[str, Callable[..., None]],
    *,
    alt: str,
    caption: str = "",
    legend: tuple[LegendEntry, ...] = (),
    points: dict[str, Any] | None = None,
    wide: tuple[int, int] = (350, 270),
) -> Figure:
    """Return a figure with a view for each axis.

    Parameters
    ----------
    key : str
    panels : dict of str to callable
        Heading -> draws it on a canvas, with ``against``, which is ``"examples"`` or ``"steps"``.
    alt, caption, legend, points
        As `Figure` has them.
    wide : tuple of int, optional
        Size of a panel in pixels. Default 350 x 270.
    """
    views = tuple(
        FigureView(
            key=against,
            panels=tuple(
                Panel(draw=partial(draw, against=against), title=title, wide=wide) for title, draw in panels.items()
            ),
            choices=(("against", against),),
        )
        for against in AGAINST
    )
    return Figure(key=key, alt=alt, views=views, caption=caption, legend=legend, points=points or {})
