"""The critical batch size by branches, on studies whose truth is known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from lrscale.batch_schedules import build_batch_schedule
from lrscale.launch import SilentProgress
from lrscale.laws.critical_branch import judge_branches, order_sd
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, StudyView, TrialRecord, TrialSpec
from lrscale.study import Study
from lrscale.study.critical_batch.branches import Branches
from lrscale.study.experiments import Context
from lrscale.study.finding import Finding
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

RECIPE = """
name: critical
task: {model: {class_path: m.Net}}
experiments:
  range_test: false
  equivalence: false
  critical_batch: {batch_size: 16, horizon: 20k examples, learning_rate: 0.002}
"""
STUDY = SyntheticStudy(truth=Truth(noise_sd=0.001, seed_sd=0.01))


class Planted(SyntheticLauncher):
    """Branches beyond the critical batch of their place end higher: 64 in the first half of the trunk, 128 after it."""

    @override
    def adjusted(self, spec: TrialSpec, record: TrialRecord) -> TrialRecord:
        if spec.branch is None or spec.batch_schedule is None or record.final_loss is None:
            return record
        critical = 64 if spec.branch.position < 600 else 128
        size = spec.batch_schedule.settings["times"] * spec.global_batch_size
        extra = 0.2 * max(0.0, math.log2(size / critical))
        return dataclasses.replace(record, final_loss=record.final_loss + extra)


def run(path: Path, launcher: SyntheticLauncher | None = None, recipe: str = RECIPE) -> Finding:
    study = Study(parse_recipe(recipe), StudyFolder(path))
    return study.run(launcher or Planted(STUDY), progress=SilentProgress()).findings[0]


def branches(recipe: str = RECIPE, optimizer: str = "AdamW") -> Branches:
    facts = {**FACTS, "optimizers": [optimizer]}
    return Branches.of(Context(recipe=parse_recipe(recipe), view=StudyView({}, pytest.fail), facts=facts, findings={}))


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, StudyView, Path]:
    path = tmp_path_factory.mktemp("critical")
    finding = run(path)
    return finding, StudyView.of(StudyFolder(path)), path


def test_the_planted_critical_batch_is_found_at_each_place(answered: tuple[Finding, StudyView, Path]) -> None:
    finding, _, _ = answered
    places = finding.tables["places"]
    assert [row["critical_batch"] for row in places] == [64, 128]
    assert [row["below"] for row in places] == [128, 256]
    assert finding.numbers["critical_batch"].value == 128
    assert [row["definition"].split(" ")[0] for row in finding.tables["compared"]][:2] == ["largest", "largest"]


def test_no_multiple_is_trained_beyond_the_first_that_is_out(answered: tuple[Finding, StudyView, Path]) -> None:
    _, view, path = answered
    largest: dict[int, int] = {}
    for trial in view:
        if trial.spec.branch is not None and trial.spec.batch_schedule is not None:
            place, times = trial.spec.branch.position, trial.spec.batch_schedule.settings["times"]
            largest[place] = max(largest.get(place, 1), times)
    assert sorted(largest.values()) == [8, 16]
    # The states serve all rounds, and go with the last.
    assert not list(path.glob("trials/*/states"))


def test_branches_see_as_many_examples_at_every_batch_and_follow_the_rule_of_the_optimizer() -> None:
    for optimizer, power in (("SGD", 1.0), ("AdamW", 0.5)):
        own = branches(optimizer=optimizer)
        for multiple in (1, 2, 4, 8, 16):
            spec = own.branch(own.positions[0], multiple, 0)
            assert spec.own_examples == own.window * 16
            assert set(spec.course.multiples()) == {multiple}
            assert spec.seed == own.trunk.seed
            if spec.batch_schedule is not None:
                settings = dict(spec.batch_schedule.settings)
                assert build_batch_schedule("constant", settings).lr_power == power


def test_a_batch_schedule_that_stays_within_the_critical_batch_is_handed_over(
    answered: tuple[Finding, StudyView, Path],
) -> None:
    finding, _, _ = answered
    handed = finding.data["batch_schedule"]
    built = build_batch_schedule(handed["name"], handed["settings"])
    assert [built.multiple(position, 100) for position in (0, 24, 26, 74, 76)] == [1, 1, 4, 4, 8]


def test_a_study_that_is_killed_goes_on(tmp_path: Path, answered: tuple[Finding, StudyView, Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Planted(STUDY, stop_after=9))
    finding = run(tmp_path)
    whole, view, _ = answered
    assert set(StudyView.of(StudyFolder(tmp_path)).trials) == set(view.trials)
    assert finding.sentence == whole.sentence


def test_a_trunk_that_diverges_says_so(tmp_path: Path) -> None:
    finding = run(tmp_path, recipe=RECIPE.replace("0.002", "0.9"))
    assert finding.status == "cannot_tell"
    assert "diverged before its first branch point" in finding.sentence


def test_the_noise_of_orders_alone_takes_a_batch_out_at_one_place_of_twenty_at_most() -> None:
    # Four equal batches, three orders at two places, and noise that no pairing lowers: the worst case.
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(300):
        noise = rng.normal(0, 0.01, size=(2, 5, 3))
        losses = [
            {
                times: {order: 2 + noise[point, k, order] for order in range(3)}
                for k, times in enumerate((1, 2, 4, 8, 16))
            }
            for point in range(2)
        ]
        spread = order_sd(losses)
        assert spread is not None
        passed += sum(judge_branches(own, 2 * spread).multiple == 16 for own in losses)
    assert passed / 600 > 0.93


def test_a_branch_that_diverges_is_beyond_whatever_the_tolerance() -> None:
    found = judge_branches({1: {0: 2.0, 1: 2.0}, 2: {0: 2.0, 1: None}, 4: {0: 1.9, 1: 1.9}}, tolerance=1.0)
    assert (found.multiple, found.hi) == (1, 2)
    assert [row.within for row in found.rows] == [True, False, False]
    assert judge_branches({2: {0: 1.0}}, 0.1).multiple is None
    assert order_sd([{1: {0: 2.0}}, {}]) is None
