"""Examples per second of each layout that both studies timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, ratio
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject
from lrscale.study.finding import Quantity

if TYPE_CHECKING:
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side

MARGIN = 1.05
"""Ratio of speeds that does not matter, as in the choice of a layout."""


@final
class Throughput(AbstractSubject):
    """Ratio of the speeds of equal layouts."""

    key: ClassVar[str] = "throughput"
    title: ClassVar[str] = "Throughput"
    method: ClassVar[str] = (
        "Layouts that both studies timed, by devices, nodes, per-device batch and accumulation. The interval of the "
        "ratio is recovered from those of both; 5 % do not matter."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        one, other = _rows(a), _rows(b)
        return [
            ratio(self.key, f"examples/s, {_layout(key)}", _speed(one[key]), _speed(other[key]), margin=MARGIN)
            for key in sorted(one.keys() & other.keys())
        ]


def _rows(side: Side) -> dict[tuple[int, ...], Mapping[str, Any]]:
    finding = side.finding("throughput")
    rows = () if finding is None else finding.data.get("rows", ())
    return {
        (
            int(row["num_nodes"] or 1),
            int(row["devices"]),
            int(row["per_device_batch_size"]),
            int(row["accumulate"]),
        ): row
        for row in rows
        if row.get("examples_per_second")
    }


def _layout(key: tuple[int, ...]) -> str:
    num_nodes, devices, per_device, accumulate = key
    accumulated = f" x {accumulate} accumulated" if accumulate > 1 else ""
    nodes = f" x {num_nodes} nodes" if num_nodes > 1 else ""
    return f"{per_device} per device{accumulated} x {devices} device{'s' if devices > 1 else ''}{nodes}"


def _speed(row: Mapping[str, Any]) -> Quantity:
    return Quantity(value=row["examples_per_second"], lo=row.get("lo"), hi=row.get("hi"), unit="examples/s")


SUBJECTS.register(Throughput.key)(Throughput())
