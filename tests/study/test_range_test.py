"""A range test is a family over batch sizes, each confirmed by trials at fixed LR; on trials whose truth is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrscale.errors import StudyError
from lrscale.launch import TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView, TrialRecord
from lrscale.study import Study
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.experiments.scaling import start_lr
from lrscale.study.finding import Finding
from lrscale.study.progress import SilentProgress
from lrscale.study.range_test.ramps import range_test_batches, read_ramps
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import SyntheticLauncher

RANGE_TEST = EXPERIMENTS["range_test"]


def recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {"range_test": {"seeds": 2, **settings}},
        }
    )


def run(folder: Path, asked: Recipe, launcher: SyntheticLauncher | None = None) -> Finding:
    launcher = launcher or SyntheticLauncher(SyntheticStudy())
    study = Study(asked, StudyFolder(folder))
    outcome = study.run(launcher, experiments=["range_test"], progress=SilentProgress())
    return outcome.findings[0]


def context(folder: Path, asked: Recipe) -> Context:
    view = StudyView.of(StudyFolder(folder)) if folder.exists() else StudyView({}, StudyFolder(folder).trajectory)
    return Context(recipe=asked, view=view, facts={}, findings={})


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, Finding]:
    folder, asked = tmp_path_factory.mktemp("family"), recipe(batch_sizes=[16, 1024, 128], steps=200)
    return folder, asked, run(folder, asked)


def test_every_batch_size_has_its_own_confirmed_lr_near_the_truth(family: tuple[Path, Recipe, Finding]) -> None:
    finding = family[2]
    assert finding.status == "ok"
    assert finding.data["batch_size"] == 128
    rows = finding.tables["batch_sizes"]
    assert [row["batch_size"] for row in rows] == [16, 128, 1024]
    for row in rows:
        truth = Truth().best_lr(row["batch_size"])
        assert row["status"] == "ok"
        assert abs(math.log(row["lr"] / truth)) < math.log(1.6)
        assert row["lr_lo"] / 1.1 < truth < row["lr_hi"] * 1.1
        # The truth diverges from six times the best LR on; the edge is known to a factor of two.
        assert row["trained_up_to"] <= 6 * truth < row["diverged_at"]
        assert row["diverged_at"] / row["trained_up_to"] == pytest.approx(2, rel=1e-3)
        assert row["runs"] <= 20
    middle = rows[1]["lr"]
    assert finding.numbers["confirmed_lr"].value == middle
    assert "At batch 128 a fixed LR of" in finding.sentence
    assert "at batch 16 and" in finding.sentence


def test_rules_are_compared_with_the_confirmed_lr_of_their_batch_size(family: tuple[Path, Recipe, Finding]) -> None:
    finding = family[2]
    confirmed = {row["batch_size"]: row["lr"] for row in finding.tables["batch_sizes"]}
    rows = finding.tables["rules"]
    assert {row["rule"] for row in rows} == {"steepest", "valley", "slide", "minimum_over_ten", "edge_over_five"}
    for row in rows:
        assert row["factor"] == pytest.approx(row["lr"] / confirmed[row["batch_size"]])
        assert row["standing"] in ("not told apart", "worse", "untested")
        assert (row["regret"] is None) or row["regret"] >= 0


def test_a_plan_is_a_pure_function_of_the_finished_trials(family: tuple[Path, Recipe, Finding]) -> None:
    folder, asked, _ = family
    whole = context(folder, asked)
    specs = RANGE_TEST.plan(whole)
    assert {spec.trial_id for spec in specs} == set(whole.view.trials)
    assert [spec.trial_id for spec in RANGE_TEST.plan(whole)] == [spec.trial_id for spec in specs]
    # With any part of them finished, what is wanted is a part of what was wanted in the end.
    wanted = {spec.trial_id for spec in specs}
    rng = np.random.default_rng(0)
    for share in (0.0, 0.2, 0.5, 0.9):
        kept = {name: trial for name, trial in whole.view.trials.items() if rng.random() < share}
        part = dataclasses.replace(whole, view=StudyView(kept, whole.view.load_trajectory))
        again = {spec.trial_id for spec in RANGE_TEST.plan(part)}
        assert again <= wanted
        assert again - set(kept), "something is missing, and it is asked for"


def test_interrupted_within_its_rounds_it_ends_with_the_trials_of_an_undisturbed_one(
    family: tuple[Path, Recipe, Finding], tmp_path: Path
) -> None:
    folder, asked, finding = family
    for after in (0, 2, 5, 6, 11):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, asked, SyntheticLauncher(SyntheticStudy(), stop_after=after))
    assert run(tmp_path, asked).to_dict() == finding.to_dict()
    assert StudyFolder(tmp_path).records() == StudyFolder(folder).records()


def test_a_staircase_gives_a_point_a_rung_and_a_validation_ramp_the_lr_of_its_step(tmp_path: Path) -> None:
    stairs = recipe(steps=200, hold=5, batch_size=64, confirm=False)
    found = run(tmp_path / "stairs", stairs)
    curve = found.data["family"][0]["curves"][0]
    assert len(curve["lr"]) <= 40
    ratio = (10 / 1e-7) ** (1 / 39)
    assert [b / a for a, b in zip(curve["lr"], curve["lr"][1:], strict=False)] == pytest.approx(
        [ratio] * (len(curve["lr"]) - 1)
    )
    validated = recipe(steps=200, hold=5, batch_size=64, confirm=False, monitor="validation")
    found = run(tmp_path / "validated", validated)
    again = found.data["family"][0]["curves"][0]
    assert again["lr"] == pytest.approx(curve["lr"][: len(again["lr"])])
    assert found.data["monitor"] == "val_loss"
    ramps = read_ramps(context(tmp_path / "validated", validated), 64)
    trajectory = StudyFolder(tmp_path / "validated").trajectory(ramps.trials[0].trial_id)
    assert ramps.curves[0][1].tolist() == trajectory.points("val_loss")[1].tolist()


def test_without_confirmation_only_ramps_run_and_suggestions_are_called_untested(tmp_path: Path) -> None:
    launcher = SyntheticLauncher(SyntheticStudy())
    finding = run(tmp_path, recipe(batch_size=64, confirm=False), launcher)
    assert len(launcher.ran) == 2
    assert finding.status == "ok"
    assert "suggestions are untested" in finding.sentence
    assert {row["standing"] for row in finding.tables["rules"]} == {"untested"}
    assert [check.status for check in finding.checks if "confirmed" in check.name] == ["INFO"]


def test_an_uninformative_curve_is_refused_with_the_reason_and_nothing_is_confirmed(tmp_path: Path) -> None:
    launcher = SyntheticLauncher(SyntheticStudy())
    finding = run(tmp_path, recipe(batch_size=64, lr_max=1e-6), launcher)
    assert finding.status == "cannot_tell"
    assert "within the noise" in finding.sentence
    assert len(launcher.ran) == 2


class Raises(SyntheticLauncher):
    """Crashes above an LR, as modules do that check their values."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        fixed = {one.spec.trial_id for one in requests if one.spec.schedule.name == "constant"}
        high = {one.spec.trial_id for one in requests if one.spec.peak_lr > 5 * Truth().best_lr(64)}
        for record in super().run(requests, progress):
            crashed = dataclasses.replace(record, status="crashed", reason="ValueError: nan", final_loss=None)
            yield crashed if record.trial_id in fixed & high else record


def test_a_module_that_raises_above_its_stable_lr_ends_no_study_and_bounds_the_edge(tmp_path: Path) -> None:
    finding = run(tmp_path, recipe(batch_size=64, steps=200), Raises(SyntheticStudy()))
    row = finding.tables["batch_sizes"][0]
    assert row["status"] == "ok"
    assert row["trained_up_to"] <= 5 * Truth().best_lr(64) < row["diverged_at"]


def test_the_sweep_starts_at_the_confirmed_lr_carried_to_its_batch_size_and_schedule(
    family: tuple[Path, Recipe, Finding],
) -> None:
    folder, asked, finding = family
    told = dataclasses.replace(context(folder, asked), findings={"range_test": finding})
    lr = {row["batch_size"]: row["lr"] for row in finding.tables["batch_sizes"]}
    assert start_lr(told, 128, 1.0) == pytest.approx(lr[128])
    assert start_lr(told, 512, 0.5) == pytest.approx(2 * lr[1024] * math.sqrt(0.5))
    assert start_lr(told, 4, 0.5) == pytest.approx(2 * lr[16] * math.sqrt(4 / 16))
    unconfirmed = dataclasses.replace(
        finding,
        data={**finding.data, "family": [{**one, "confirmation": None} for one in finding.data["family"]]},
    )
    lo, hi = finding.data["bracket"]
    told = dataclasses.replace(told, findings={"range_test": unconfirmed})
    assert start_lr(told, 512, 0.5) == pytest.approx(math.sqrt(lo * hi))


def test_ramps_and_runs_begin_from_the_checkpoint_and_its_content_decides_their_identity(tmp_path: Path) -> None:
    asked = recipe(checkpoint="last.ckpt", batch_size=64, optimizer=1, monitor="val_error").placed(
        root=tmp_path, text="", source="recipe.yaml", lines={}
    )
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"one state")
    first = RANGE_TEST.at_most(context(tmp_path / "study", asked))
    assert len(first) == 2 + 20
    for spec in first:
        assert spec.start is not None
        assert spec.start.path == "last.ckpt"
        assert spec.optimizer == 1
        assert spec.task["monitor"] == "val_error"
    assert {spec.validate_every for spec in first[:2]} == {1}
    path.write_bytes(b"another state")
    second = RANGE_TEST.at_most(context(tmp_path / "study", asked))
    assert not {spec.trial_id for spec in first} & {spec.trial_id for spec in second}
    path.unlink()
    with pytest.raises(StudyError, match="no file"):
        RANGE_TEST.plan(context(tmp_path / "study", asked))


def test_a_study_can_be_read_where_its_checkpoint_is_not(tmp_path: Path) -> None:
    asked = recipe(checkpoint="last.ckpt", batch_size=64, steps=200).placed(
        root=tmp_path, text="", source="recipe.yaml", lines={}
    )
    (tmp_path / "last.ckpt").write_bytes(b"a state")
    finding = run(tmp_path / "study", asked)
    (tmp_path / "last.ckpt").unlink()
    assert RANGE_TEST.analyse(context(tmp_path / "study", asked)).to_dict() == finding.to_dict()


def test_the_middle_of_its_batch_sizes_stands_for_a_family() -> None:
    assert range_test_batches(recipe(batch_sizes=[512, 32, 128, 256])) == (128, 32, 256, 512)
    assert range_test_batches(recipe(batch_size=48)) == (48,)
