from __future__ import annotations

from typing import Any

from lrscale.cli.finding_tables import table_lines
from lrscale.study.finding import Finding


def layout(devices: int, size: int, speed: float, **changes: Any) -> dict[str, Any]:
    return {
        "devices": devices,
        "num_nodes": 1,
        "per_device_batch_size": size,
        "accumulate": 1,
        "examples_per_second": speed,
        "lo": 0.9 * speed,
        "hi": 1.1 * speed,
        "step_p50": size * devices / speed,
        "step_p90": 1.2 * size * devices / speed,
        "data_share": 0.21,
        "sync_share": 0.0,
        **changes,
    }


def test_throughput_prints_rows_shares_and_knee() -> None:
    rows = (layout(1, 16, 800.0), layout(1, 64, 1000.0), layout(2, 64, 1900.0, sync_share=0.38, data_share=None))
    knees = [
        {"ranks": 1, "size": 16, "lo": 16, "hi": 64, "share": 0.8, "at_edge": False},
        {"ranks": 2, "size": 64, "lo": None, "hi": None, "share": 0.8, "at_edge": True},
    ]
    target = {**layout(2, 64, 1900.0), "accumulate": 4, "global_batch_size": 512, "how": "predicted"}
    finding = Finding(
        key="throughput",
        title="Throughput",
        status="ok",
        sentence="Timed.",
        tables={"layouts": rows, "targets": (target,)},
        data={"knees": knees},
    )
    lines = [" ".join(line.split()) for line in table_lines(finding) if line and not line.startswith("---")]
    assert lines == [
        "devices per device examples/s step 90 % of steps data other ranks",
        "1 16 800 (95 % 720 to 880) 20 ms to 24 ms 21 % 0 % knee at 80 % (16 to 64)",
        "1 64 1000 (95 % 900 to 1100) 64 ms to 77 ms 21 % 0 %",
        "2 64 1900 (95 % 1710 to 2090) 67 ms to 81 ms 38 % still rising",
        "global batch per device accumulation devices examples/s",
        "512 64 4 2 1900 (95 % 1710 to 2090) predicted",
    ]


def test_memory_prints_the_peak_or_where_it_ended() -> None:
    rows = (
        {"per_device_batch_size": 8, "peak": 3 * 2**30, "ran": True, "status": "completed", "ended_in": None},
        {"per_device_batch_size": 16, "peak": None, "ran": False, "status": "out_of_memory", "ended_in": "backward"},
    )
    finding = Finding(key="memory", title="Memory", status="ok", sentence="Probed.", tables={"probes": rows})
    assert table_lines(finding) == [
        "",
        "per device  peak of the worst rank  outcome",
        "----------  ----------------------  -------------------------",
        "         8               3,072 MiB  trains and validates",
        "        16                          out of memory in backward",
    ]


def test_a_finding_whose_answer_is_a_sentence_has_no_table() -> None:
    assert table_lines(Finding(key="scaling", title="LR", status="ok", sentence="Found.")) == []
    assert table_lines(Finding(key="memory", title="M", status="cannot_tell", sentence="None.")) == []
