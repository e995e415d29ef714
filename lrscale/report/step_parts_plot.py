"""Where the time of a step goes, as a bar for each layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.report.canvas import Canvas, text_width
from lrscale.report.palette import color
from lrscale.report.words import count, percent

PARTS = (("computes", "accent", 0.72), ("waits for data", "rule-c", 0.58), ("waits for other ranks", "rule-a", 0.44))
"""Name, colour and thickness: told apart without colour too."""
LEAST_LABEL = 44
"""Pixels from which on a part has room for its share."""


def draw_parts(canvas: Canvas, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a stacked bar for each layout, the first one on top.

    Parameters
    ----------
    canvas : Canvas
    rows : sequence of mapping
        ``devices``, ``num_nodes``, ``per_device_batch_size``, ``accumulate``, ``data_share`` and ``sync_share``.
    """
    names = [_name(row, narrow=canvas.is_narrow) for row in rows]
    left = 14 + round(max(text_width(name) for name in names))
    canvas.margins(left=left, right=16, top=6, bottom=38)
    canvas.scale("x", 0.0, 100.0, log=False)
    canvas.scale("y", -0.55, len(rows) - 0.45, log=False, at=[])
    canvas.axis_labels("share of a step (%)")
    room = canvas.width - left - 16
    for rank, (row, name) in enumerate(zip(rows, names, strict=True)):
        place = len(rows) - 1 - rank
        data, sync = 100 * float(row["data_share"]), 100 * float(row["sync_share"])
        shares = (max(0.0, 100 - data - sync), data, sync)
        start = 0.0
        for (part, role, height), share in zip(PARTS, shares, strict=True):
            if share > 0:
                (bar,) = canvas.axes.barh(place, share, height, left=start, color=color(role), alpha=0.75, lw=0)
                canvas.hover(bar, f"{name}: {part} {percent(share / 100)} of a step")
                if share * room / 100 > LEAST_LABEL:
                    canvas.label(start + share / 2, place, percent(share / 100), align="center")
            start += share
        canvas.label(0.0, place, name, align="right", dx=-8)


def _name(row: Mapping[str, Any], *, narrow: bool) -> str:
    devices = int(row["devices"]) * int(row.get("num_nodes") or 1)
    accumulate = int(row.get("accumulate") or 1)
    more = f" x {accumulate}" if accumulate > 1 else ""
    if narrow:
        return f"{devices} x {count(row['per_device_batch_size'])}{more}"
    return f"{devices} device{'s' if devices > 1 else ''} x {count(row['per_device_batch_size'])}{more}"
