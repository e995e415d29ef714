"""What moves with the batch size in real trials: the groups of the optimizer while it steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from lrscale_test_trials import Ran, Trials, make_spec, make_task, read_lines

from lrscale.units import Layout


def run(trials: Trials, tmp_path: Path, companions: dict[str, Any], **changed: Any) -> tuple[Ran, list[dict[str, Any]]]:
    layout = changed.pop("layout", None)
    task = make_task("trial_modules.TellsGroups", init={"optimizer": "adam", "record": str(tmp_path)})
    spec = dataclasses.replace(make_spec(task, batch=16, horizon=4, **changed), companions=companions)
    return trials.one(spec, layout), read_lines(tmp_path / "groups-0.jsonl")


@pytest.mark.parametrize("layout", [None, Layout(per_device_batch_size=4, accumulate=2, devices=2)])
def test_a_policy_sets_the_groups_before_the_first_step_and_keeps_the_own_values(
    trials: Trials, tmp_path: Path, layout: Layout | None
) -> None:
    half_life = {"policy": "half-life", "reference_batch_size": 4}
    ran, groups = run(trials, tmp_path, half_life, lr=0.03, layout=layout)
    assert ran.record.status == "completed"
    assert len(groups) == 4
    for group in groups:
        # torch's AdamW has beta2 0.999 and weight decay 0.01; the batch is four times the reference.
        assert group["betas"] == pytest.approx([0.9, 0.999**4])
        assert group["weight_decay"] == pytest.approx(0.04)
        assert (group["eps"], group["lr"]) == (1e-8, 0.03)
    facts = ran.record.facts
    assert facts["group_settings"][0]["beta2"] == 0.999
    assert facts["companions"]["policy"] == "half-life" and facts["companions"]["ratio"] == 4
    assert facts["companions"]["group_settings"][0]["beta2"] == pytest.approx(0.999**4)


def test_a_rule_that_leaves_its_range_warns_in_the_record(trials: Trials, tmp_path: Path) -> None:
    ran, groups = run(trials, tmp_path, {"policy": "sde", "reference_batch_size": 1})
    assert groups[0]["betas"] == pytest.approx([0.0, 0.984])
    assert groups[0]["eps"] == pytest.approx(2.5e-9)
    assert ran.warned("beta1 would be -0.6 at 16 times the reference batch size and is held at 0")


def test_without_a_policy_nothing_moves(trials: Trials, tmp_path: Path) -> None:
    ran, groups = run(trials, tmp_path, {})
    assert groups[0]["betas"] == [0.9, 0.999]
    assert "companions" not in ran.record.facts
    assert ran.record.facts["group_settings"][0]["weight_decay"] == 0.01


def test_a_schedule_that_moves_the_momentum_keeps_the_moved_second_moment(trials: Trials, tmp_path: Path) -> None:
    _, groups = run(trials, tmp_path, {"policy": "half-life", "reference_batch_size": 4}, schedule="one_cycle")
    assert {group["betas"][1] for group in groups} == {0.999**4}
    assert len({group["betas"][0] for group in groups}) > 1
