"""From a global batch to per-device batch x accumulation x devices: the fastest that was timed or can be predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from lrscale.laws.base import Interval
from lrscale.laws.step_time import StepTimeFit
from lrscale.units import Layout, divisors

How = Literal["timed", "timed with another accumulation", "predicted"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutChoice:
    """A layout and how its speed is known."""

    layout: Layout
    examples_per_second: float
    interval: Interval
    how: How

    def to_dict(self) -> dict[str, Any]:
        """Return a row of a finding."""
        return {
            "global_batch_size": self.layout.global_batch_size,
            "devices": self.layout.devices,
            "num_nodes": self.layout.num_nodes,
            "per_device_batch_size": self.layout.per_device_batch_size,
            "accumulate": self.layout.accumulate,
            "examples_per_second": self.examples_per_second,
            "lo": self.interval.lo,
            "hi": self.interval.hi,
            "how": self.how,
        }


def fastest_layout(
    global_batch_size: int,
    rows: Sequence[Mapping[str, Any]],
    *,
    max_per_device_batch_size: int | None = None,
    fit: StepTimeFit | None = None,
) -> LayoutChoice | None:
    """Return the fastest way to form a global batch on the devices that were timed, or None where none divides it.

    A layout that was timed comes first. One that was timed with another accumulation is taken at its speed, which
    differs by the cost of a step, or better at what the model says of it. One that the model alone predicts, at a
    per-device batch between those timed, is taken only where the lower end of its interval lies above what was timed.

    Parameters
    ----------
    global_batch_size : int
        Examples of a step.
    rows : sequence of mapping
        Timed layouts: ``devices``, ``num_nodes``, ``per_device_batch_size``, ``accumulate``, ``examples_per_second``,
        and the ends ``lo`` and ``hi`` of its interval.
    max_per_device_batch_size : int or None, optional
        Largest forward that fits. Default None: the largest that was timed.
    fit : StepTimeFit or None, optional
        Default None: nothing is predicted.

    Examples
    --------
    >>> rows = [
    ...     {"devices": 2, "num_nodes": 1, "per_device_batch_size": size, "accumulate": 1, "examples_per_second": speed,
    ...      "lo": None, "hi": None}
    ...     for size, speed in ((16, 500.0), (32, 900.0), (64, 800.0))
    ... ]
    >>> fastest_layout(256, rows).layout
    Layout(per_device_batch_size=32, accumulate=4, devices=2, num_nodes=1)
    """
    timed, predicted = [], []
    most = max_per_device_batch_size or max((int(row["per_device_batch_size"]) for row in rows), default=0)
    for devices, num_nodes in sorted({(int(row["devices"]), int(row.get("num_nodes") or 1)) for row in rows}):
        own = [row for row in rows if (int(row["devices"]), int(row.get("num_nodes") or 1)) == (devices, num_nodes)]
        known = {int(row["per_device_batch_size"]): row for row in own}
        if global_batch_size % (devices * num_nodes):
            continue
        share = global_batch_size // (devices * num_nodes)
        for size in divisors(share):
            if size > most:
                continue
            layout = Layout(per_device_batch_size=size, accumulate=share // size, devices=devices, num_nodes=num_nodes)
            if size in known:
                timed.append(_timed(layout, known[size], fit))
            elif fit is not None and min(known) < size < max(known):
                found = fit.examples_per_second(size, layout.world_size, layout.accumulate)
                if found is not None:
                    predicted.append(
                        LayoutChoice(layout=layout, examples_per_second=found[0], interval=found[1], how="predicted")
                    )
    best = max(timed, key=_speed, default=None)
    surer = [
        choice
        for choice in predicted
        if best is None or (choice.interval.lo is not None and choice.interval.lo > best.examples_per_second)
    ]
    return max(surer, key=_speed, default=best)


def _timed(layout: Layout, row: Mapping[str, Any], fit: StepTimeFit | None) -> LayoutChoice:
    value, ends = float(row["examples_per_second"]), Interval(row.get("lo"), row.get("hi"), 0.95)
    if int(row.get("accumulate") or 1) == layout.accumulate:
        return LayoutChoice(layout=layout, examples_per_second=value, interval=ends, how="timed")
    found = None
    if fit is not None:
        found = fit.examples_per_second(layout.per_device_batch_size, layout.world_size, layout.accumulate)
    if found is None:
        return LayoutChoice(
            layout=layout, examples_per_second=value, interval=ends, how="timed with another accumulation"
        )
    return LayoutChoice(layout=layout, examples_per_second=found[0], interval=found[1], how="predicted")


def _speed(choice: LayoutChoice) -> float:
    return choice.examples_per_second
