"""A batch schedule that follows the noise scale along training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lrscale.laws.noise_scale import NoiseScale

MOST = 64
"""Largest multiple of the first batch."""


def batch_growth(course: Sequence[NoiseScale], *, batch_size: int, horizon: int) -> dict[str, Any] | None:
    """Return a schedule whose batch stays at or below what the noise scale surely is, or None where it cannot grow.

    In each window of training the multiple is the largest power of two that the lower end of the noise scale's interval
    allows. It never falls: a batch that was large enough early is not taken back for a window that measured less. At
    the noise scale itself a run takes twice the examples of the smallest batches (McCandlish et al. 2018,
    arXiv:1812.06162), below it fewer. The LR follows by the rule of the optimizer.

    Parameters
    ----------
    course : sequence of NoiseScale
        By window, in order.
    batch_size : int
        At which it was measured: the first batch.
    horizon : int
        Steps of the trials.

    Returns
    -------
    dict or None
        A ``batch_schedule`` of a recipe.
    """
    points: list[list[float]] = [[0.0, 1]]
    for window in course:
        least = None if window.interval is None else window.interval.lo
        if least is None or window.first_step is None or least < batch_size:
            continue
        multiple = min(MOST, 2 ** math.floor(math.log2(least / batch_size)))
        share = round(min(window.first_step / horizon, 0.9999), 4)
        if multiple <= points[-1][1]:
            continue
        if share <= points[-1][0]:
            points[-1][1] = multiple
        else:
            points.append([share, multiple])
    if points == [[0.0, 1]]:
        return None
    return {"name": "piecewise", "settings": {"points": points}, "rule": "auto"}
