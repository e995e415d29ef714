"""Where the time of a step goes, in real groups whose parts have known lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress, TrialRequest
from lrscale.store import ScheduleSpec, TrialRecord, TrialSpec
from lrscale.units import Layout

from .conftest import TASKS


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    with LocalLauncher(LaunchSettings(root=TASKS, preload=("slow_parts",), accelerator="cpu")) as shared:
        yield shared


def train(
    launcher: LocalLauncher,
    folder: Path,
    layout: Layout,
    *,
    steps: int = 17,
    wait: float = 0.0,
    instruments: Mapping[str, Any] | None = None,
    **init: float,
) -> TrialRecord:
    spec = TrialSpec(
        task={
            "model": {"class_path": "slow_parts.SlowParts", "init_args": init},
            "data": {"class_path": "slow_parts.SlowRows", "init_args": {"wait": wait}},
            "trainer": {},
        },
        schedule=ScheduleSpec(name="constant"),
        peak_lr=0.01,
        global_batch_size=layout.global_batch_size,
        horizon=steps,
        seed=0,
        validate_every=None,
        layout=layout,
    )
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"step_time": {}} if instruments is None else instruments
    wanted = TrialRequest(spec=spec, layout=layout, folder=folder, instruments=asked)
    (record,) = launcher.run([wanted], SilentProgress())
    assert record.status == "completed", record.reason
    return record


def test_waiting_for_a_slow_rank_is_told_from_computing(launcher: LocalLauncher, tmp_path: Path) -> None:
    layout = Layout(per_device_batch_size=4, devices=2)
    seen = train(launcher, tmp_path / "lag", layout, compute=0.02, lag=0.06).measurements["step_time"]
    assert seen["steps"] == 7
    # Rank 0 waits 60 ms and rank 1 hardly: 30 ms on average, of a step of 80 ms. A busy machine adds to all of them.
    assert 0.027 <= seen["sync"]["seconds"] <= 0.06
    assert seen["sync"]["share"] == pytest.approx(3 / 8, abs=0.12)
    assert seen["data"]["share"] < 0.2
    assert seen["sync"]["se"] is None or seen["sync"]["se"] < 0.2


def test_fetching_rows_is_waiting_for_data_at_every_forward(launcher: LocalLauncher, tmp_path: Path) -> None:
    layout = Layout(per_device_batch_size=4, accumulate=2)
    record = train(launcher, tmp_path / "data", layout, compute=0.01, wait=0.005)
    seen = record.measurements["step_time"]
    # Two forwards of 10 ms, each after 4 rows of 5 ms.
    assert 0.04 <= seen["data"]["seconds"] <= 0.08
    assert seen["data"]["share"] == pytest.approx(2 / 3, abs=0.15)
    assert seen["sync"]["share"] == 0.0
    assert seen["seconds"] == pytest.approx(record.timing["step_mean"], rel=0.4)


def test_a_trial_trains_as_it_does_without_the_instrument(launcher: LocalLauncher, tmp_path: Path) -> None:
    layout = Layout(per_device_batch_size=4, devices=2, accumulate=2)
    with_it = train(launcher, tmp_path / "with", layout, compute=0.0, instruments={"step_time": {"every": 1}})
    without = train(launcher, tmp_path / "without", layout, compute=0.0, instruments={})
    assert with_it.final_loss == without.final_loss
    assert with_it.measurements["step_time"]["steps"] == 14
    assert without.measurements == {}


def test_a_trial_too_short_to_settle_measures_nothing(launcher: LocalLauncher, tmp_path: Path) -> None:
    record = train(launcher, tmp_path, Layout(per_device_batch_size=4), steps=3, compute=0.0)
    assert record.measurements["step_time"]["steps"] == 0
    assert record.measurements["step_time"]["busy"] >= 0
    assert "step_mean" not in record.timing
