"""What is written is read back, whatever it holds."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError, StudyError
from lrscale.schedules.warmup import WARMUP_SHAPES
from lrscale.store import (
    STATUSES,
    BatchScheduleSpec,
    BranchPoint,
    ScheduleSpec,
    StartState,
    Trajectory,
    TrialRecord,
    TrialSpec,
)
from lrscale.store.files import to_json
from lrscale.store.trajectory import LINES_NAME, PARQUET_NAME, pack_trajectory, read_trajectory
from lrscale.units import Layout

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=3)
LAYOUTS = st.builds(
    Layout,
    per_device_batch_size=st.integers(1, 64),
    accumulate=st.integers(1, 4),
    devices=st.integers(1, 8),
    num_nodes=st.integers(1, 2),
)
SPECS = st.builds(
    TrialSpec,
    task=OBJECTS,
    schedule=st.builds(
        ScheduleSpec,
        name=NAMES,
        settings=OBJECTS,
        warmup_steps=st.integers(0, 100),
        warmup_shape=st.sampled_from(WARMUP_SHAPES),
    ),
    peak_lr=st.floats(1e-12, 1e3),
    global_batch_size=st.integers(1, 10**6),
    horizon=st.integers(2, 10**6),
    seed=st.integers(0, 2**31),
    overrides=OBJECTS,
    validate_every=st.integers(0, 100),
    stop_on_divergence=st.booleans(),
    layout=st.none() | LAYOUTS,
    batch_schedule=st.none() | st.builds(BatchScheduleSpec, name=NAMES, settings=OBJECTS),
    branch=st.none() | st.builds(BranchPoint, trial_id=NAMES, position=st.just(1)),
)
RECORDS = st.builds(
    TrialRecord,
    trial_id=st.just("0123456789abcdef"),
    status=st.sampled_from(STATUSES),
    reason=st.none() | st.text(max_size=20),
    final_loss=st.none() | FINITE,
    best_loss=st.none() | FINITE,
    initial_loss=st.none() | FINITE,
    monitor=st.none() | NAMES,
    steps=st.integers(0, 10**6),
    examples=st.integers(0, 10**9),
    layout=st.none() | LAYOUTS,
    timing=st.dictionaries(NAMES, FINITE, max_size=3),
    environment=OBJECTS,
    facts=OBJECTS,
    warnings=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    retryable=st.booleans(),
    log_tail=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)

CELLS = st.none() | st.integers(0, 10**9) | FINITE
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["step", "examples", "lr", "train_loss", "val_loss", "noise_scale"]), CELLS),
    max_size=8,
)


@given(SPECS)
def test_a_spec_is_read_back_equal_with_the_same_id(spec: TrialSpec) -> None:
    again = TrialSpec.from_dict(json.loads(to_json(spec.to_dict())))
    assert again == spec
    assert again.trial_id == spec.trial_id


@given(SPECS, SPECS)
def test_two_specs_share_an_id_only_when_they_are_equal(one: TrialSpec, other: TrialSpec) -> None:
    assert (one.trial_id == other.trial_id) == (to_json(one.to_dict()) == to_json(other.to_dict()))


@given(SPECS, st.data())
def test_every_field_of_a_spec_decides_its_id(spec: TrialSpec, data: st.DataObject) -> None:
    changes: dict[str, Any] = {
        "task": {**spec.task, "another": 1},
        "schedule": ScheduleSpec(name=f"{spec.schedule.name}x"),
        "peak_lr": spec.peak_lr * 2,
        "global_batch_size": spec.global_batch_size + 1,
        "horizon": spec.horizon + 1,
        "seed": spec.seed + 1,
        "overrides": {**spec.overrides, "another": 1},
        "validate_every": spec.validate_every + 1,
        "stop_on_divergence": not spec.stop_on_divergence,
        "layout": Layout(per_device_batch_size=999),
        "instruments": {**spec.instruments, "another": {}},
        "companions": {**spec.companions, "another": 1},
        "optimizer": 0,
        "start": StartState(path="last.ckpt", sha256="0" * 64),
        "validation_follows": not spec.validation_follows,
        "stopper": {**spec.stopper, "another": 1},
        "batch_schedule": BatchScheduleSpec(name="doubling", settings={"another": 1}),
        "branch": BranchPoint(trial_id="another trial", position=1),
        "other_optimizer": {**spec.other_optimizer, "another": 1},
    }
    assert set(changes) == {field.name for field in dataclasses.fields(TrialSpec)}
    name = data.draw(st.sampled_from(sorted(changes)))
    if changes[name] != getattr(spec, name):
        assert dataclasses.replace(spec, **{name: changes[name]}).trial_id != spec.trial_id


def test_the_content_of_a_checkpoint_decides_an_id_and_its_place_does_not() -> None:
    def spec(path: str, sha256: str) -> TrialSpec:
        schedule, start = ScheduleSpec(name="constant"), StartState(path=path, sha256=sha256)
        return TrialSpec(task={}, schedule=schedule, peak_lr=0.1, global_batch_size=1, horizon=1, seed=0, start=start)

    assert spec("a.ckpt", "1" * 64).trial_id == spec("moved/b.ckpt", "1" * 64).trial_id
    assert spec("a.ckpt", "1" * 64).trial_id != spec("a.ckpt", "2" * 64).trial_id
    assert TrialSpec.from_dict(spec("a.ckpt", "1" * 64).to_dict()) == spec("a.ckpt", "1" * 64)


def test_the_id_of_a_spec_stays_what_it_was() -> None:
    # Studies on disk are found by it: a change of this value makes every one of them run anew.
    spec = TrialSpec(
        task={"model": {"class_path": "shop.Net", "init_args": {"width": 8}}},
        schedule=ScheduleSpec(name="cosine", warmup_steps=10),
        peak_lr=1e-3,
        global_batch_size=64,
        horizon=100,
        seed=1,
    )
    assert spec.trial_id == "31e5b7013bfd701a"


def test_the_shape_of_a_warm_up_decides_an_id() -> None:
    def trial_id(**own: Any) -> str:
        schedule = ScheduleSpec(name="cosine", warmup_steps=10, **own)
        return TrialSpec(task={}, schedule=schedule, peak_lr=0.1, global_batch_size=1, horizon=20, seed=0).trial_id

    assert trial_id() == trial_id(warmup_shape="linear") != trial_id(warmup_shape="cosine")


def test_the_order_of_keys_does_not_decide_an_id() -> None:
    base: dict[str, Any] = {
        "schedule": ScheduleSpec(name="constant"),
        "peak_lr": 0.1,
        "global_batch_size": 1,
        "horizon": 1,
        "seed": 0,
    }
    one = TrialSpec(task={"a": 1, "b": {"c": 2, "d": 3}}, **base)
    other = TrialSpec(task={"b": {"d": 3, "c": 2}, "a": 1}, **base)
    assert one.trial_id == other.trial_id


@given(RECORDS)
def test_a_record_is_read_back_equal(record: TrialRecord) -> None:
    assert TrialRecord.from_dict(json.loads(to_json(record.to_dict()))) == record


@pytest.mark.parametrize(
    ("field", "value"),
    [("peak_lr", 0.0), ("peak_lr", float("nan")), ("horizon", 0), ("global_batch_size", 0), ("seed", -1)],
)
def test_a_spec_that_cannot_train_is_refused(field: str, value: float) -> None:
    values: dict[str, Any] = {
        "task": {},
        "schedule": ScheduleSpec(name="constant"),
        "peak_lr": 0.1,
        "global_batch_size": 1,
        "horizon": 1,
        "seed": 0,
        field: value,
    }
    with pytest.raises(LrscaleError, match=field.replace("peak_lr", "peak LR")):
        TrialSpec(**values)


def test_what_a_newer_lrscale_wrote_is_refused() -> None:
    record = TrialRecord(trial_id="ab", status="completed").to_dict()
    with pytest.raises(StudyError, match="record version 99 is newer than 1"):
        TrialRecord.from_dict({**record, "schema_version": 99})
    with pytest.raises(StudyError, match="unknown status exploded"):
        TrialRecord.from_dict({**record, "status": "exploded"})


@given(ROWS)
def test_a_trajectory_is_the_same_before_and_after_it_is_packed(rows: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / LINES_NAME).write_text("".join(f"{to_json(row)}\n" for row in rows))
        before = read_trajectory(folder)
        pack_trajectory(folder)
        after = read_trajectory(folder)
        assert (folder / LINES_NAME).exists() == (not rows)
        assert (folder / PARQUET_NAME).exists() == bool(rows)
        assert len(before) == len(after) == len(rows)
        for column in after.columns if rows else ():
            np.testing.assert_array_equal(after[column], before[column])


@given(ROWS.filter(bool), st.data())
def test_a_torn_last_line_is_cut_and_never_read_as_a_number(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    import tempfile

    lines = [f"{to_json(row)}\n".encode() for row in rows]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / LINES_NAME).write_bytes(whole[:cut])
        found = read_trajectory(Path(name))
    complete = whole[:cut].count(b"\n")
    assert len(found) == complete
    expected = Trajectory.from_rows(rows[:complete])
    for column in found.columns:
        np.testing.assert_array_equal(found[column], expected[column] if column in expected.columns else np.nan)


@pytest.mark.parametrize("junk", [b"\x00" * 64, b'{"step": 2, "exa', b"[1, 2]", b"7", b""])
def test_a_line_that_a_power_cut_damaged_is_left_out(tmp_path: Path, junk: bytes) -> None:
    good = [b'{"step": 1, "examples": 8, "train_loss": 2.0}', b'{"step": 3, "examples": 24, "train_loss": 1.0}']
    (tmp_path / LINES_NAME).write_bytes(good[0] + b"\n" + junk + b"\n" + good[1] + b"\n")
    steps, losses = read_trajectory(tmp_path).points("train_loss")
    assert (steps.tolist(), losses.tolist()) == ([1.0, 3.0], [2.0, 1.0])


def test_points_are_the_rows_that_carry_a_value() -> None:
    rows = [
        {"step": 1, "examples": 8, "train_loss": 2.0},
        {"step": 1, "examples": 8, "val_loss": 1.5},
        {"step": 2, "examples": 16, "train_loss": None},
        {"step": 3, "examples": 24, "train_loss": 1.0},
    ]
    trajectory = Trajectory.from_rows(rows)
    against, values = trajectory.points("train_loss", "examples")
    assert against.tolist() == [8, 24]
    assert values.tolist() == [2.0, 1.0]
    assert Trajectory().points("val_loss")[0].size == 0
    assert list(trajectory.frame()["step"]) == [1, 1, 2, 3]


@given(st.recursive(FINITE | st.just(math.nan) | st.just(math.inf), lambda inner: st.lists(inner, max_size=3)))
def test_numbers_that_json_has_not_become_null(value: Any) -> None:
    text = to_json({"value": value})
    assert "NaN" not in text
    assert "Infinity" not in text
    json.loads(text)


def test_arrays_and_their_scalars_become_plain_values() -> None:
    text = to_json(
        {"a": np.array([1.0, np.nan]), "b": np.float32(0.5), "c": np.int64(3), "d": np.bool_(True), "e": (1, 2)}
    )
    assert json.loads(text) == {"a": [1.0, None], "b": 0.5, "c": 3, "d": True, "e": [1, 2]}
