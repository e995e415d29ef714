"""recommendation.yaml and what else a recommendation is handed over as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.recommend import (
    Alternative,
    Evidence,
    Recommendation,
    RecommendedSchedule,
    Refusal,
    Validity,
)
from lrscale.recommend.companions import CompanionValues, RecommendedCompanions
from lrscale.recommend.plain import dump
from lrscale.recommend.recommendation import CONFIDENCES
from lrscale.study.finding import Check, Quantity

FINITE = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(1e-300, 1e300)
WHOLE = st.integers(1, 10**12)
TEXT = st.text(max_size=20)


@st.composite
def recommendations(draw: st.DrawFn) -> Recommendation:
    per_device, accumulate, devices, nodes = (draw(st.integers(1, 64)) for _ in range(4))
    quantity = st.builds(
        Quantity, value=st.none() | FINITE, lo=st.none() | FINITE, hi=st.none() | FINITE, unit=TEXT, confidence=FINITE
    )
    return Recommendation(
        name=draw(TEXT),
        created=draw(TEXT),
        lrscale_version=draw(TEXT),
        monitor=draw(TEXT),
        lr=Quantity(value=draw(POSITIVE), lo=draw(st.none() | POSITIVE), hi=draw(POSITIVE)),
        equivalent_lr=(draw(FINITE), draw(FINITE)),
        global_batch_size=per_device * accumulate * devices * nodes,
        per_device_batch_size=per_device,
        accumulate_grad_batches=accumulate,
        devices=devices,
        num_nodes=nodes,
        schedule=RecommendedSchedule(
            name=draw(TEXT),
            settings=draw(st.dictionaries(TEXT, FINITE | st.booleans() | TEXT, max_size=3)),
            warmup_steps=draw(WHOLE),
        ),
        horizon_steps=draw(WHOLE),
        horizon_examples=draw(WHOLE),
        expected_loss=draw(quantity),
        expected_seconds=draw(st.none() | quantity),
        validity=Validity(
            batch_sizes=(draw(WHOLE), draw(WHOLE)),
            learning_rates=(draw(FINITE), draw(FINITE)),
            horizon_examples=draw(WHOLE),
            diverges_above=draw(st.none() | FINITE),
            precision=draw(st.none() | TEXT),
            optimizers=tuple(draw(st.lists(TEXT, max_size=2))),
        ),
        stands_on=Evidence(trials=draw(WHOLE), seeds=draw(WHOLE), devices=(draw(TEXT),), experiments=("scaling",)),
        confidence=draw(st.sampled_from(CONFIDENCES)),
        reasons=tuple(draw(st.lists(TEXT, max_size=2))),
        companions=draw(
            st.none()
            | st.builds(
                RecommendedCompanions,
                policy=TEXT,
                reference_batch_size=WHOLE,
                groups=st.lists(
                    st.builds(CompanionValues, beta2=st.none() | FINITE, weight_decay=st.none() | FINITE), max_size=2
                ).map(tuple),
            )
        ),
        alternatives=tuple(
            draw(
                st.lists(
                    st.builds(
                        Alternative,
                        batch_size=WHOLE,
                        lr=FINITE,
                        loss=FINITE,
                        relative_loss=st.none() | FINITE,
                        relative_seconds=st.none() | FINITE,
                    ),
                    max_size=2,
                )
            )
        ),
        checks=tuple(
            draw(
                st.lists(
                    st.builds(
                        Check,
                        name=TEXT,
                        status=st.sampled_from(["PASS", "WARNING", "FAIL", "INFO"]),
                        sentence=TEXT,
                        remedy=st.none() | TEXT,
                    ),
                    max_size=2,
                )
            )
        ),
    )


def one(**changes: Any) -> Recommendation:
    values: dict[str, Any] = {
        "name": "demo",
        "created": "2026-01-02T03:04:05+00:00",
        "lrscale_version": "0.1.0",
        "monitor": "val_loss",
        "lr": Quantity(value=0.0021, lo=0.0016, hi=0.0028),
        "equivalent_lr": (0.0014, 0.0026),
        "global_batch_size": 512,
        "per_device_batch_size": 64,
        "accumulate_grad_batches": 4,
        "devices": 2,
        "num_nodes": 1,
        "schedule": RecommendedSchedule(
            name="wsd", settings={"decay_fraction": 0.2}, warmup_steps=10, warmup_examples=5120
        ),
        "horizon_steps": 100,
        "horizon_examples": 51_200,
        "expected_loss": Quantity(value=2.31456, lo=2.28, hi=2.35),
        "expected_seconds": Quantity(value=15_000.0, unit="s"),
        "validity": Validity(
            batch_sizes=(64, 1024), learning_rates=(1e-4, 5e-3), horizon_examples=51_200, diverges_above=0.006
        ),
        "stands_on": Evidence(trials=64, seeds=3),
        "confidence": "measured",
        "reasons": ("It was measured.",),
        "alternatives": (
            Alternative(batch_size=1024, lr=0.003, loss=2.32, relative_loss=0.004, relative_seconds=-0.31),
        ),
    }
    return Recommendation(**{**values, **changes})


@given(recommendations())
def test_a_recommendation_is_read_back_to_the_last_digit(made: Recommendation) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        made.save(Path(name) / "recommendation.yaml")
        assert Recommendation.load(name) == made
        assert Recommendation.load(Path(name) / "recommendation.yaml") == made
    assert Recommendation.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made


def test_the_file_is_plain_yaml_that_other_tools_read() -> None:
    plain = one().to_dict()
    assert yaml.safe_load(dump(plain)) == plain
    assert list(plain)[:2] == ["schema_version", "name"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "recommendation version 2 is newer than 1, the newest this lrscale reads"),
        ({"schema_version": None}, "this is not a recommendation: it has no schema_version"),
        ({"lr": 3}, "lr must be a mapping, not 3"),
        ({"lr": {"value": "fast"}}, "lr.value must be a number, not 'fast'"),
        ({"lr": {"value": -1.0}}, "a recommended LR must be positive, not -1.0"),
        ({"lr": {"value": None}}, "a recommended LR must be positive, not None"),
        ({"confidence": "sure"}, "confidence must be one of measured, interpolated, extrapolated, cannot tell"),
        ({"global_batch_size": 500}, "global_batch_size 500 is not 64 per device x 4 x 2 devices x 1 nodes = 512"),
        ({"global_batch_size": 512.0}, "global_batch_size must be a whole number, not 512.0"),
        ({"equivalent_lr": [1.0]}, "equivalent_lr must have 2 entries, not 1"),
        ({"reasons": "because"}, "reasons must be a list, not 'because'"),
        ({"learning_rate": 1}, "learning_rate is not known"),
        ({"schedule": {"settings": {}}}, "schedule.name is missing"),
        ({"schedule": {"name": "wsd", "settings": 3}}, "schedule.settings must be a mapping, not 3"),
        ({"schedule": {"name": "wsd", "warm": 3}}, "schedule.warm is not known"),
        ({"name": 3}, "name must be text, not 3"),
        ({"horizon_steps": 0}, "horizon_steps must be at least 1, not 0"),
    ],
)
def test_a_damaged_file_names_the_field(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "recommendation.yaml"
    path.write_text(yaml.safe_dump({**one().to_dict(), **change}))
    with pytest.raises(LrscaleError) as caught:
        Recommendation.load(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "is not a recommendation"), ("- a", "is not a recommendation"), ("a: [", "line 1"), ("a: 1\na: 2", "line 2")],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "recommendation.yaml").write_text(content)
    with pytest.raises(LrscaleError, match=said):
        Recommendation.load(tmp_path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LrscaleError, match=r"there is no recommendation at .*; make one: lrscale recommend"):
        Recommendation.load(tmp_path)
    with pytest.raises(LrscaleError, match="or its study folder"):
        Recommendation.load(tmp_path / "x.yaml")


def test_the_factor_follows_the_schedule_and_holds_after_its_end() -> None:
    made = one()
    factors = [made.lr_factor(step) for step in range(100)]
    assert factors[:10] == [(step + 1) / 10 for step in range(10)]
    assert set(factors[10:82]) == {1.0}
    assert factors[91] == pytest.approx(0.5)
    assert made.lr_factor(1000) == factors[99]
    assert made.lr_at(50) == 0.0021


def test_a_longer_job_has_the_same_share_of_warm_up() -> None:
    schedule = one().schedule_for(1000)
    assert schedule.factor(99, 1000) == 1.0
    assert schedule.factor(49, 1000) == 0.5


def test_the_summary_carries_every_number_with_its_interval() -> None:
    text = one().markdown()
    for part in (
        "peak LR **2.1e-3**",
        "2.1e-3 (95 % 1.6e-3 to 2.8e-3)",
        "512 = 64 per device x 4 accumulation x 2 devices",
        "2.315 (95 % 2.28 to 2.35)",
        "4.2 h of training",
        "from LR 6e-3 on",
        "measured; 64 trials, 3 seeds",
        "batch 1,024 at LR 3e-3: +0.4 % loss, -31 % time",
        "- It was measured.",
    ):
        assert part in text
    bare = one(expected_loss=Quantity(value=None), expected_seconds=None, alternatives=()).markdown()
    assert "not measured" in bare
    assert "expected time" not in bare


def test_the_fragment_holds_layout_length_and_callback() -> None:
    made = one(trainer={"precision": "16-mixed", "gradient_clip_val": 0.5}, batch_size_home="data.init_args.batch_size")
    text = made.lightning_cli_fragment("study/recommendation.yaml")
    trainer = yaml.safe_load(text)["trainer"]
    assert trainer["accumulate_grad_batches"] == 4
    assert trainer["devices"] == 2
    assert (trainer["max_steps"], trainer["max_epochs"]) == (100, -1)
    assert (trainer["precision"], trainer["gradient_clip_val"]) == ("16-mixed", 0.5)
    assert trainer["callbacks+"] == [
        {
            "class_path": "lrscale.callbacks.ApplyRecommendation",
            "init_args": {"recommendation": "study/recommendation.yaml"},
        }
    ]
    assert "set its batch size to 64 (in the trials data.init_args.batch_size)" in text


def test_the_loop_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "recommendation.yaml"
    made = one(horizon_steps=20, horizon_examples=20 * 512)
    made.save(path)
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD([{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.01}], lr=0.1)
    seen: list[list[float]] = []
    code = made.loop_snippet(str(path)).replace("    ...", "    note()\n    ...")
    exec(code, {"optimizer": optimizer, "note": lambda: seen.append([g["lr"] for g in optimizer.param_groups])})
    assert [lrs[0] for lrs in seen] == pytest.approx([made.lr_at(step) for step in range(20)])
    assert [lrs[1] for lrs in seen] == pytest.approx([made.lr_at(step) / 10 for step in range(20)])


def test_a_refusal_reads_as_text() -> None:
    assert str(Refusal(sentence="It cannot be told.", needs="Add seeds.")) == "It cannot be told. Add seeds."
