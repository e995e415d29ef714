"""The sections on memory and speed: what they show is what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from lrscale.laws.memory import fit_memory
from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.render import render_report
from lrscale.report.sections.memory import MemorySection
from lrscale.report.sections.throughput import ThroughputSection
from lrscale.store import StudyFolder
from lrscale.study.finding import Finding

GIB = 2**30
Contexts = Callable[[str], ReportContext]


def row(size: int, **changes: Any) -> dict[str, Any]:
    return {
        "per_device_batch_size": size,
        "devices": 2,
        "num_nodes": 1,
        "ran": True,
        "status": "completed",
        "peak": 20 * GIB + size * GIB // 2,
        "allocated": 19 * GIB + size * GIB // 2,
        "alloc_retries": 0,
        "capacity": 80 * GIB,
        "kind": "cuda",
        "ended_in": None,
        "validated": True,
        "reason": None,
        "seconds": 6.0,
        "trial_id": f"trial{size}",
        **changes,
    }


def finding(*rows: dict[str, Any], capacity: float | None = 80.0 * GIB) -> Finding:
    fit = fit_memory({one["per_device_batch_size"]: one["peak"] for one in rows if one["peak"]})
    band = [
        {"size": size, "value": fit.predict(size)[0], "lo": fit.predict(size)[1].lo, "hi": fit.predict(size)[1].hi}
        for size in (range(0, 100, 10) if fit.ok else ())
    ]
    data = {"rows": list(rows), "capacity": capacity, "margin": 0.1, "law": fit.to_dict(), "band": band, "size": 96}
    return Finding(key="memory", title="Memory", status="ok", sentence="A batch of 96 fits.", data=data)


FOUND = finding(
    row(4), row(16), row(64), row(128, ran=False, status="out_of_memory", peak=None, ended_in="validation")
)  # fmt: skip


def with_finding(context: ReportContext, made: Finding) -> ReportContext:
    others = tuple(one for one in context.findings if one.key != made.key)
    return dataclasses.replace(context, findings=(*others, made))


def card(context: ReportContext, made: Finding) -> Card:
    return make_card(MemorySection(), with_finding(context, made))


def test_every_probe_is_a_row_with_its_peak_and_outcome(context_of: Contexts) -> None:
    shown = card(context_of("complete"), FOUND)
    assert shown.status == "ok"
    rows = shown.table("probes").rows
    assert [one["outcome"] for one in rows] == ["fits", "fits", "fits", "out of memory in validation"]
    assert [one["peak_gib"] for one in rows] == [22, 28, 52, None]
    assert shown.notes[0].startswith("Each example takes 512 (")
    assert {entry.label for entry in shown.figure("peaks").legend} >= {"fits", "does not fit"}


def test_a_size_that_thrashes_says_so(context_of: Contexts) -> None:
    shown = card(context_of("complete"), finding(row(4), row(16), row(64, ran=False, alloc_retries=7)))
    assert shown.table("probes").rows[2]["outcome"] == "thrashes: 7 flushes of the cache"


def test_without_a_line_the_reason_is_shown(context_of: Contexts) -> None:
    shown = card(context_of("complete"), finding(row(4), row(8), capacity=None))
    assert shown.notes == ("No line was fitted to the peaks: 2 batch sizes ran, and a line with an interval needs 3.",)


def test_a_study_without_probes_says_which_experiment_would_make_them(context_of: Contexts) -> None:
    absent = make_card(MemorySection(), context_of("complete"))
    assert (absent.status, absent.finding) == (
        "absent",
        "Memory was not probed in this study (experiments.memory).",
    )


@pytest.mark.parametrize("capacity", [80.0 * GIB, 8000.0 * GIB, None])
def test_the_page_draws_memory_and_speed(
    studies: Callable[[str], StudyFolder], context_of: Contexts, capacity: float | None
) -> None:
    rows = FOUND.data["rows"]
    findings = (*context_of("complete").findings, finding(*rows, capacity=capacity))
    page = render_report(studies("complete"), findings=findings, recommendation=None)
    assert "could not be drawn" not in page
    assert "could not be made" not in page
    assert "64 per device: 52 GiB" in page


def test_shares_of_a_step_are_those_of_the_finding(context_of: Contexts) -> None:
    context = context_of("complete")
    made = context.finding("throughput")
    assert made is not None
    points = make_card(ThroughputSection(), context).figure("parts").points
    rows = sorted(made.data["rows"], key=lambda one: (one["devices"], one["per_device_batch_size"]))
    assert points["sync_share"] == [one["sync_share"] for one in rows]
    assert points["data_share"] == [one["data_share"] for one in rows]


def test_a_finding_from_before_the_shares_were_measured_is_shown_without_them(context_of: Contexts) -> None:
    context = context_of("complete")
    made = context.finding("throughput")
    assert made is not None
    known = ("devices", "num_nodes", "per_device_batch_size", "accumulate", "global_batch_size")
    kept = (*known, "examples_per_second", "step_p50", "step_p90", "seconds_per_million_examples", "trial_id")
    data = {"rows": [{key: one[key] for key in kept} for one in made.data["rows"]]}
    shown = make_card(ThroughputSection(), with_finding(context, dataclasses.replace(made, data=data, tables={})))
    assert shown.status == "ok", shown.notes
    assert [figure.key for figure in shown.figures] == ["speed"]
