"""Which per-device batch size to probe next, and which one the probes allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lrscale.laws.memory import MemoryFit, fit_memory
from lrscale.laws.memory.model import round_sizes
from lrscale.study.finding import Finding

MOST_GROWTH = 8
"""Largest step up from a size that ran, where the fitted line would allow more: it was fitted to small sizes."""
COARSE = 0.02
"""Share of a peak that two measurements may be apart without a reason: the resident set of a process varies so."""
LIKELY = 0.8
"""Confidence with which a step stays within the memory: a step too far costs one probe, a timid one as much."""
FAR = 1 << 24
"""Examples on one device beyond which nobody trains; bounds the search where nothing else does."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One size that was tried on all ranks."""

    size: int
    """Per-device batch size in examples."""
    ran: bool
    """Whether every rank trained and validated, without having to flush the allocator's cache."""
    peak: float | None = None
    """Peak bytes of the worst rank; None where a rank did not live to tell."""
    capacity: float | None = None
    """Bytes that a rank may use; None where unknown."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAnswer:
    """What the probes allow."""

    size: int | None
    """Largest size that leaves the margin; it, or a larger one, has run. None where none does."""
    largest: int | None
    """Largest size that ran."""
    smallest_failed: int | None
    """Smallest size above it that did not; None where every probe ran."""
    at_cap: bool
    """Whether the search ended at the cap and not at the memory."""
    capacity: float | None
    """Bytes that a rank may use, the least over the probes."""
    fit: MemoryFit


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySearch:
    """Grows until the memory is used up to the margin, guided by the line fitted to the peaks, then bisects.

    Sizes double until three have run. Then the fitted line says where the margin is met, and the search goes there at
    once, by a factor of `MOST_GROWTH` at most. Where a size fails although the line allows it, the gap is bisected.
    Before there is a line, no step is proposed that the growth so far does not allow.

    Examples
    --------
    >>> search, probes = MemorySearch(start=4, cap=1000, margin=0.1), []
    >>> while (size := search.next(probes)) is not None:
    ...     probes.append(Probe(size=size, ran=size <= 130, peak=1e9 + 1e7 * size, capacity=2.4e9))
    >>> [probe.size for probe in probes]
    [4, 8, 16, 116]
    >>> search.answer(probes).size
    116
    """

    start: int
    """First size, at least 1."""
    cap: int | None
    """Largest size that may be tried: the user's bound and the data's; None where there is none."""
    margin: float
    """Share of the memory, and of the room below a size that failed, that is left free, in [0, 1)."""

    def next(self, probes: Sequence[Probe]) -> int | None:
        """Return the next size to probe, or None when the answer is known."""
        cap = self.cap or FAR
        if not probes:
            return max(1, min(self.start, cap))
        largest, failed = _bracket(probes)
        if largest is None:
            assert failed is not None
            return None if failed == 1 else failed // 2
        high = min(cap, cap if failed is None else failed - 1)
        between = [size for size in (*round_sizes(high), high) if size > largest]
        if not between or (failed is not None and not _gap(largest, failed)):
            return None
        fit, target = _fit(probes, LIKELY), self._target(probes)
        peak = next((probe.peak for probe in probes if probe.size == largest), None)
        wanted = 2 * largest
        if target is not None and peak is not None:
            if peak > target:
                return None
            if fit.ok:
                if fit.predict(between[0])[0] > target:
                    return None
                # To miss the margin costs nothing, to miss the capacity a probe: aim at the first, keep the second.
                aimed = min(fit.largest_within(target, sure=False), fit.largest_within(_capacity(probes) or target))
                wanted = min(max(aimed, between[0]), MOST_GROWTH * largest)
            else:
                room = (_capacity(probes) or target) - peak
                wanted = min(wanted, largest + int(room / _steepest(probes, largest, peak)))
        if failed is not None and (not fit.ok or wanted > high):
            middle = _gap(largest, failed)
            wanted = middle[len(middle) // 2]
        return max(size for size in between if size <= max(wanted, between[0]))

    def answer(self, probes: Sequence[Probe]) -> MemoryAnswer:
        """Return what the probes allow, whether or not the search has ended."""
        largest, failed = _bracket(probes)
        fit, target = _fit(probes), self._target(probes)
        size = None
        if largest is not None:
            measured = {probe.size: probe.peak for probe in probes if probe.ran}
            allowed = [
                size
                for size in {*round_sizes(largest), *measured}
                if size <= largest
                and (failed is None or size <= max(1.0, (1 - self.margin) * failed))
                and _within(size, measured, fit, target)
            ]
            size = max(allowed, default=None)
        return MemoryAnswer(
            size=size,
            largest=largest,
            smallest_failed=failed,
            at_cap=largest is not None and largest == self.cap,
            capacity=_capacity(probes),
            fit=fit,
        )

    def _target(self, probes: Sequence[Probe]) -> float | None:
        capacity = _capacity(probes)
        return None if capacity is None else (1 - self.margin) * capacity


def largest_that_fits(findings: Mapping[str, Finding]) -> int | None:
    """Return the largest per-device batch that the memory probes allow, or None where they do not say."""
    found = findings.get("memory")
    size = None if found is None or found.status != "ok" else found.data.get("size")
    return None if size is None else int(size)


def _within(size: int, measured: dict[int, float | None], fit: MemoryFit, target: float | None) -> bool:
    """Whether a size leaves the margin: by its own peak, by the line, or because a larger size does."""
    if target is None:
        return True
    if any(peak is not None and peak <= target for one, peak in measured.items() if one >= size):
        return True
    return size not in measured and fit.ok and (fit.predict(size)[1].hi or 0.0) <= target


def _steepest(probes: Sequence[Probe], largest: int, peak: float) -> float:
    """Return an upper end of the bytes of an example before a line can be fitted.

    A part of the memory is fixed, so that an example takes at most its share of the peak; and at most what the peak
    rose by since the smallest size, with `COARSE` of it for what the measurements are rounded by.
    """
    first = min(probes, key=lambda probe: probe.size)
    if first.peak is None or not first.ran or first.size == largest:
        return peak / largest
    return min(peak / largest, (max(0.0, peak - first.peak) + COARSE * peak) / (largest - first.size))


def _gap(largest: int, failed: int) -> list[int]:
    return [size for size in round_sizes(failed - 1) if size > largest]


def _bracket(probes: Sequence[Probe]) -> tuple[int | None, int | None]:
    """Return the largest size that ran below every one that failed, and the smallest that failed."""
    failed = min((probe.size for probe in probes if not probe.ran), default=None)
    ran = [probe.size for probe in probes if probe.ran and (failed is None or probe.size < failed)]
    return max(ran, default=None), failed


def _capacity(probes: Sequence[Probe]) -> float | None:
    return min((probe.capacity for probe in probes if probe.capacity is not None), default=None)


def _fit(probes: Sequence[Probe], confidence: float = 0.95) -> MemoryFit:
    peaks = {probe.size: probe.peak for probe in probes if probe.ran and probe.peak}
    return fit_memory(peaks, confidence=confidence)
