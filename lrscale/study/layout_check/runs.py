"""The trials of a layout check, and which further ones would tell a cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from lrscale.study.layout_check.compare import Comparison, compare
from lrscale.study.layout_check.probe import Probe
from lrscale.units import Layout

Stage = Literal["plain", "reseeded", "quiet", "frozen"]
"""The module as it is; with other random numbers on every rank; without dropout; and with batch normalisation using
running statistics besides."""

STILL: dict[Stage, tuple[str, ...]] = {"quiet": ("dropout",), "frozen": ("dropout", "batch_norm")}
"""What the probe takes out of the module in a stage."""
CONTROLLED = ("examples", "batches")
"""Data whose examples are the same in every layout by construction."""
_NO_HASH = f"{0:016x}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One trial of the check."""

    layout: Layout
    stage: Stage
    status: str
    """The trial's own."""
    reason: str | None
    """Why it did not complete."""
    probe: Probe | None
    """None where it left no step to compare."""
    source: str | None = None
    """What of the data could be controlled: examples, batches, stream or custom."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A layout against the reference in one stage."""

    reference: Probe
    other: Probe
    comparison: Comparison

    @property
    def differs(self) -> bool:
        """Whether more than rounding tells them apart."""
        return self.comparison.relation != "same"


@final
class Runs:
    """The finished trials of a check by stage; the reference is the first plain one that left steps.

    Parameters
    ----------
    runs : sequence of Run
        In the order of the plan.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.all = tuple(runs)
        self._pairs: dict[Stage, dict[Layout, Pair]] = {}
        self.reference = next((run for run in runs if run.stage == "plain" and run.probe is not None), None)

    def find(self, stage: Stage, layout: Layout) -> Run | None:
        """Return a trial, or None when it has not finished."""
        return next((run for run in self.all if run.stage == stage and run.layout == layout), None)

    def pairs(self, stage: Stage = "plain") -> dict[Layout, Pair]:
        """Return every layout that can be compared with the reference, within a stage."""
        if stage not in self._pairs:
            self._pairs[stage] = self._compared(stage)
        return self._pairs[stage]

    def _compared(self, stage: Stage) -> dict[Layout, Pair]:
        first = None if self.reference is None else self.find(stage, self.reference.layout)
        if first is None or first.probe is None:
            return {}
        found = {}
        for run in self.all:
            if run.stage != stage or run.layout == first.layout or run.probe is None:
                continue
            comparison = compare(first.probe, run.probe)
            if comparison is not None:
                found[run.layout] = Pair(reference=first.probe, other=run.probe, comparison=comparison)
        return found

    def differing(self) -> list[Layout]:
        """Return the layouts that differ as the module is and whose ranks read different batches."""
        return [
            layout for layout, pair in self.pairs().items() if pair.differs and not reads_identical_batches(pair.other)
        ]

    @property
    def draws(self) -> bool:
        """Whether the module drew random numbers in some step."""
        return any(step.drew for run in self.all if run.stage == "plain" and run.probe for step in run.probe.steps)

    @property
    def source(self) -> str | None:
        """What of the data could be controlled."""
        return None if self.reference is None else self.reference.source

    def noise(self) -> float | None:
        """Return how far another course of random numbers moves the reference's gradient; None without that trial."""
        if self.reference is None or self.reference.probe is None:
            return None
        again = self.find("reseeded", self.reference.layout)
        if again is None or again.probe is None:
            return None
        comparison = compare(self.reference.probe, again.probe)
        return None if comparison is None else comparison.gradient_difference

    def other_data(self, layout: Layout) -> bool:
        """Whether a layout read other values than the reference, or than a layout with the same micro-batches."""
        pair = self.pairs()[layout]
        if self.data_vary:
            return True
        if (same := same_rows(pair)) is not None:
            return not same
        parts = sorted(micro_hashes(pair.other))
        twins = [
            probe
            for run in self.all
            if run.stage == "plain"
            and (probe := run.probe) is not None
            and run.layout != layout
            and run.layout.per_device_batch_size == layout.per_device_batch_size
            and probe.micro_batches == pair.other.micro_batches
        ]
        return any(sorted(micro_hashes(twin)) != parts for twin in twins)

    @property
    def data_vary(self) -> bool:
        """Whether another course of random numbers brings the reference other values."""
        if self.reference is None or self.reference.probe is None:
            return False
        again = self.find("reseeded", self.reference.layout)
        if again is None or again.probe is None:
            return False
        return micro_hashes(self.reference.probe) != micro_hashes(again.probe)


def same_rows(pair: Pair) -> bool | None:
    """Whether two layouts read the same examples, whole or in parts; None where that cannot be told.

    Examples of batches without a common first dimension cannot be told apart, and a batch that is padded to its longest
    example differs from its parts although its examples do not.
    """
    steps = list(zip(pair.reference.steps, pair.other.steps, strict=False))
    if any(ours.rows is None or theirs.rows is None for ours, theirs in steps):
        return None
    if all(ours.rows == theirs.rows for ours, theirs in steps):
        return True
    return False if all(ours.shapes == theirs.shapes for ours, theirs in steps) else None


def reads_identical_batches(probe: Probe) -> bool:
    """Whether ranks were given the same batch, in data that do not repeat one batch for ever."""
    if probe.layout.world_size < 2:
        return False
    course = [hashed for step in probe.steps for hashed in step.hashes[0]]
    if _NO_HASH in course or len(set(course)) == 1 < len(course):
        return False
    return all(len(set(step.hashes)) < len(step.hashes) for step in probe.steps)


def micro_hashes(probe: Probe) -> list[str]:
    """Return the hashes of all micro-batches, step by step and rank by rank."""
    return [hashed for step in probe.steps for rank in step.hashes for hashed in rank]


def further(runs: Runs) -> list[tuple[Stage, Layout]]:
    """Return the trials that would tell a cause and are not there yet; none where nothing differs.

    First randomness is told from layout: the reference with other random numbers, and every layout without dropout.
    What is left is then tried without batch statistics, where the module has any.
    """
    differing = runs.differing()
    if runs.reference is None or not differing:
        return []
    first = runs.reference.layout
    doubted = any(
        runs.other_data(layout) or (same_rows(pair) is not True and pair.comparison.relation == "mixed")
        for layout in differing
        for pair in (runs.pairs()[layout],)
    )
    wanted: list[tuple[Stage, Layout]] = []
    if runs.draws or doubted:
        wanted.append(("reseeded", first))
    base: Stage = "quiet" if runs.draws else "plain"
    if runs.draws:
        wanted += [("quiet", layout) for layout in (first, *differing)]
    pairs = runs.pairs(base)
    tangled = [layout for layout in differing if layout in pairs and pairs[layout].comparison.relation == "mixed"]
    if tangled and any(pairs[layout].reference.batch_norm or pairs[layout].other.batch_norm for layout in tangled):
        wanted += [("frozen", layout) for layout in (first, *tangled)]
    return [(stage, layout) for stage, layout in wanted if runs.find(stage, layout) is None]
