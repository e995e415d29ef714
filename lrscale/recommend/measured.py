"""What the findings measured, in the form that a choice needs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.store import StudyView, Trial
from lrscale.study.finding import Finding, Quantity
from lrscale.units import Layout

Z_95 = 1.96
"""Half of a normal 95 % interval, in standard errors."""
MEDIAN_ERROR = 1.25
"""Standard error of a median over that of a mean, for normal values: sqrt(pi / 2)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measured setting: a batch size under a schedule, at its own best LR."""

    batch_size: int
    lr: Quantity
    """Best peak LR with its interval."""
    loss: Quantity
    """Fitted loss there, with its interval."""
    equivalent_lr: tuple[float, float]
    """LRs that cost next to nothing; the interval itself where the fit gives none."""
    diverged_above: float | None
    trials: int


def find(findings: Iterable[Finding], key: str) -> Finding | None:
    """Return the finding of an experiment, or None."""
    return next((finding for finding in findings if finding.key == key), None)


def scaling_cells(finding: Finding) -> tuple[Cell, ...]:
    """Return the batch sizes whose best LR was located, the smallest first."""
    confidence = _confidence(finding)
    cells = [
        Cell(
            batch_size=int(row["batch_size"]),
            lr=Quantity(value=row["best_lr"], lo=row["lo"], hi=row["hi"], confidence=confidence),
            loss=Quantity(value=row["loss"], lo=row["loss_lo"], hi=row["loss_hi"], confidence=confidence),
            equivalent_lr=_pair(row["equivalent_lo"], row["equivalent_hi"], row["lo"], row["hi"], row["best_lr"]),
            diverged_above=row["diverged_above"],
            trials=int(row["trials"]),
        )
        for row in finding.tables.get("slices", ())
        if row["status"] == "ok" and row["best_lr"] is not None and row["loss"] is not None
    ]
    return tuple(sorted(cells, key=lambda cell: cell.batch_size))


def unlocated(finding: Finding) -> dict[int, str]:
    """Return the batch sizes that were measured without locating their best LR, each with its status."""
    return {
        int(row["batch_size"]): str(row["status"]) for row in finding.tables.get("slices", ()) if row["status"] != "ok"
    }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleResult:
    """One schedule of the comparison."""

    name: str
    label: str
    verdict: str
    """best, lowest, tied, worse or cannot tell."""
    difference: Quantity
    """Loss minus the best schedule's."""
    cell: Cell | None
    """None where its best LR was not located."""


def schedule_results(finding: Finding) -> tuple[ScheduleResult, ...]:
    """Return the schedules that were compared with the module's own optimizer, in their order."""
    data = finding.data
    rows = data.get("own_schedules", data.get("schedules", ()))
    return tuple(_schedule_result(entry, int(data["batch_size"])) for entry in rows)


def _schedule_result(entry: Mapping[str, Any], batch_size: int) -> ScheduleResult:
    lr, lo, hi = entry.get("best_lr"), entry.get("lr_lo"), entry.get("lr_hi")
    loss, fit = entry.get("loss"), entry.get("slice") or {}
    cell = None
    if lr is not None and loss is not None:
        ends = fit.get("equivalence") or (None, None)
        cell = Cell(
            batch_size=batch_size,
            lr=Quantity(value=lr, lo=lo, hi=hi),
            loss=Quantity(value=loss, lo=entry.get("loss_lo"), hi=entry.get("loss_hi")),
            equivalent_lr=_pair(ends[0], ends[1], lo, hi, lr),
            diverged_above=fit.get("diverged_above"),
            trials=len(fit.get("lr") or ()),
        )
    return ScheduleResult(
        name=str(entry["name"]),
        label=str(entry.get("label") or entry["name"]),
        verdict=str(entry.get("verdict", "cannot tell")),
        difference=Quantity(
            value=entry.get("difference"), lo=entry.get("difference_lo"), hi=entry.get("difference_hi")
        ),
        cell=cell,
    )


@final
@dataclass(frozen=True, slots=True)
class Speeds:
    """Examples per second by layout, from the throughput experiment, or else from the trials themselves."""

    rows: tuple[Mapping[str, Any], ...]
    trials: tuple[Trial, ...]
    fits: int | None = None
    """Largest per-device batch that the memory probes allow; None where nothing was probed."""

    @property
    def largest_forward(self) -> int | None:
        """Largest per-device batch of a trial that completed; None where no trial says its layout."""
        layouts = [trial.record.layout for trial in self.trials if trial.record.status == "completed"]
        return max((layout.per_device_batch_size for layout in layouts if layout is not None), default=None)

    @classmethod
    def of(cls, findings: Sequence[Finding], view: StudyView) -> Speeds:
        """Gather what was measured."""
        finding = find(findings, "throughput")
        rows = () if finding is None else tuple(finding.data.get("rows", ()))
        memory = find(findings, "memory")
        fits = None if memory is None or memory.status != "ok" else memory.data.get("size")
        return cls(tuple(row for row in rows if row.get("examples_per_second")), tuple(view), fits)

    def examples_per_second(self, layout: Layout) -> float | None:
        """Return the speed of a layout.

        A measurement of the same global batch goes first, then one of the same forward with another accumulation
        (which differs by the cost of one optimizer step), then the median over the trials of that batch and layout.
        """
        timed = self.timed(layout)
        if timed is not None:
            return timed
        seen = self._of_trials(layout)
        return statistics.median(seen) if seen else None

    def timed(self, layout: Layout) -> float | None:
        """Return the speed by the throughput experiment alone, or None where it ran no such forward.

        Layouts are compared by these: the other trials ran at other hours, beside other work.
        """
        same = [row for row in self.rows if _forward(row) == _forward_of(layout)]
        exact = [row for row in same if row.get("global_batch_size") == layout.global_batch_size]
        return max((float(row["examples_per_second"]) for row in exact or same), default=None)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Devices per node and nodes that the throughput experiment timed, ascending."""
        return tuple(sorted({(int(row["devices"]), int(row.get("num_nodes") or 1)) for row in self.rows}))

    def interval(self, layout: Layout) -> tuple[float, float] | None:
        """Return the 95 % interval of a layout's speed where that very layout was timed, or else None."""
        for row in self.rows:
            exact = _forward(row) == _forward_of(layout) and row.get("global_batch_size") == layout.global_batch_size
            if exact and row.get("lo") and row.get("hi"):
                return float(row["lo"]), float(row["hi"])
        return None

    def log_error(self, layout: Layout) -> float:
        """Return the standard error of the logarithm of a layout's speed; 0 where a single trial tells it."""
        ends = self.interval(layout)
        if ends is not None:
            return math.log(ends[1] / ends[0]) / (2 * Z_95)
        seen = [math.log(speed) for speed in self._of_trials(layout)]
        return MEDIAN_ERROR * statistics.stdev(seen) / math.sqrt(len(seen)) if len(seen) > 1 else 0.0

    def _of_trials(self, layout: Layout) -> list[float]:
        return [
            trial.record.timing["examples_per_second"]
            for trial in self.trials
            if trial.record.layout == layout and trial.record.timing.get("examples_per_second")
        ]

    def fastest_split(self, layout: Layout, max_per_device_batch_size: int | None) -> tuple[Layout, float] | None:
        """Return the fastest measured way to form the layout's global batch on its devices, and its speed."""
        found = []
        for row in self.rows:
            size = int(row["per_device_batch_size"])
            ranks = layout.world_size
            if (int(row["devices"]), int(row.get("num_nodes") or 1)) != (layout.devices, layout.num_nodes):
                continue
            if layout.global_batch_size % (ranks * size) or size > (max_per_device_batch_size or size):
                continue
            split = Layout(
                per_device_batch_size=size,
                accumulate=layout.global_batch_size // (ranks * size),
                devices=layout.devices,
                num_nodes=layout.num_nodes,
            )
            found.append((split, float(self.timed(split) or 0.0)))
        return max(found, key=lambda pair: pair[1], default=None)


def _forward(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(row["per_device_batch_size"]), int(row["devices"]), int(row.get("num_nodes") or 1)


def _forward_of(layout: Layout) -> tuple[int, int, int]:
    return layout.per_device_batch_size, layout.devices, layout.num_nodes


def _confidence(finding: Finding) -> float:
    known = finding.numbers.get("best_lr")
    return 0.95 if known is None else known.confidence


def _pair(lo: Any, hi: Any, other_lo: Any, other_hi: Any, middle: float) -> tuple[float, float]:
    low = next((end for end in (lo, other_lo) if end is not None), middle)
    high = next((end for end in (hi, other_hi) if end is not None), middle)
    return float(low), float(high)
