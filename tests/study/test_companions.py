"""Companions as a factor: the same slices under each policy, and the difference that they make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import RecipeError
from lrscale.recipe import Recipe, load_recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Finding, Study, read_findings
from lrscale.study.companions_answer import decide
from lrscale.study.progress import SilentProgress
from lrscale.study.specs import make_spec
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher
from lrscale.units import Duration

REFERENCE = 64


def recipe(**scaling: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "experiments": {
                "range_test": False,
                "equivalence": False,
                "scaling": {"batch_sizes": [16, 64, 256], "horizon": "20k examples", "seeds": 3, **scaling},
            },
        }
    )


def run(folder: Path, asked: Recipe) -> tuple[Finding, StudyView]:
    study = Study(asked, StudyFolder(folder))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    (finding,) = read_findings(study.folder)
    return finding, StudyView.of(study.folder)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, StudyView]:
    asked = recipe(companions=["none", "half-life", "sde"], reference_batch_size=REFERENCE)
    return run(tmp_path_factory.mktemp("study"), asked)


def test_each_policy_has_its_own_slices_but_at_the_reference_batch_size(compared: tuple[Finding, StudyView]) -> None:
    finding, view = compared
    seen = {(trial.spec.companions.get("policy"), trial.spec.global_batch_size) for trial in view}
    assert seen == {(None, 16), (None, 64), (None, 256)} | {
        (policy, size) for policy in ("half-life", "sde") for size in (16, 256)
    }
    assert set(finding.trial_ids) == {trial.trial_id for trial in view}


def test_the_difference_at_each_batch_size_is_the_true_one(compared: tuple[Finding, StudyView]) -> None:
    finding, _ = compared
    rows = finding.tables["companions"]
    assert [(row["policy"], row["batch_size"]) for row in rows] == [
        ("half-life", 16),
        ("half-life", 256),
        ("sde", 16),
        ("sde", 256),
    ]
    for row in rows:
        truth = (-0.02 if row["policy"] == "half-life" else 0.02) * math.log(4)
        assert row["difference_lo"] < truth < row["difference_hi"]
        assert row["difference"] == pytest.approx(truth, abs=0.012)
        assert row["paired_seeds"] == 3
        assert row["confidence"] == pytest.approx(1 - 0.05 / 4)


def test_what_helps_is_to_be_adopted_and_what_hurts_is_not(compared: tuple[Finding, StudyView]) -> None:
    finding, _ = compared
    decisions = {one["policy"]: one["decision"] for one in finding.data["companions"]["decisions"]}
    assert decisions == {"half-life": "adopt", "sde": "keep"}
    said = {check.name: check for check in finding.checks}["companions half-life"]
    assert "adopt them with experiments.scaling.companions: half-life" in said.sentence
    # The answer itself is still that of the first policy: nothing is applied unasked.
    assert finding.data["companions"]["used"] == "none"
    assert {cell["batch_size"] for cell in finding.data["cells"]} == {16, 64, 256}


def test_one_policy_alone_is_applied_everywhere_and_compared_with_nothing(tmp_path: Path) -> None:
    finding, view = run(tmp_path, recipe(companions="half-life", reference_batch_size=REFERENCE))
    assert {trial.spec.companions.get("policy") for trial in view if trial.spec.global_batch_size != 64} == {
        "half-life"
    }
    assert finding.data["companions"]["used"] == "half-life"
    assert finding.data["companions"]["rows"] == []


def test_other_experiments_train_with_the_first_policy_too() -> None:
    asked = recipe(companions=["half-life", "none"], reference_batch_size=REFERENCE)
    settings: dict[str, Any] = {"peak_lr": 0.1, "horizon": Duration(100, "steps"), "schedule": "ramp", "settings": {}}
    ramp = make_spec(asked, batch_size=16, seed=0, **settings)
    assert ramp.companions == {"policy": "half-life", "reference_batch_size": 64}
    assert make_spec(asked, batch_size=64, seed=0, **settings).companions == {}
    assert make_spec(asked, batch_size=16, seed=0, companions="none", **settings).companions == {}


def test_without_companions_a_finding_says_nothing_of_them(tmp_path: Path) -> None:
    finding, view = run(tmp_path, recipe(seeds=1))
    assert "companions" not in finding.data
    assert all(trial.spec.companions == {} for trial in view)


def row(size: int, lo: float, hi: float, verdict: str) -> dict[str, Any]:
    ends = {"difference": (lo + hi) / 2, "difference_lo": lo, "difference_hi": hi}
    return {"batch_size": size, "verdict": verdict, "confidence": 0.95, **ends}


@pytest.mark.parametrize(
    ("rows", "decision"),
    [
        ([row(16, -0.2, -0.1, "lower"), row(64, -0.1, 0.1, "cannot tell")], "adopt"),
        ([row(16, -0.2, -0.1, "lower"), row(64, 0.1, 0.2, "higher")], "mixed"),
        ([row(16, -0.1, 0.1, "cannot tell"), row(64, 0.1, 0.2, "higher")], "keep"),
        ([row(16, -0.001, 0.001, "equivalent")], "keep"),
        ([row(16, -0.1, 0.1, "cannot tell"), row(64, -0.001, 0.001, "equivalent")], "cannot tell"),
        ([], "cannot tell"),
    ],
)
def test_a_policy_is_adopted_only_where_it_helps_and_nowhere_hurts(rows: list[dict[str, Any]], decision: str) -> None:
    assert decide("none", "half-life", rows)["decision"] == decision


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("companions: half-live, reference_batch_size: 64", "unknown companions 'half-live'; did you mean half-life"),
        ("companions: sde", "moves the companions by sde and does not say from where; set reference_batch_size"),
        ("companions: [sde, sde], reference_batch_size: 64", "names 'sde' twice"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(tmp_path: Path, written: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: demo\ntask: {model: {class_path: shop.Net}}\n"
        f"experiments:\n  scaling: {{batch_sizes: [16, 64], horizon: 20k examples, {written}}}\n"
    )
    with pytest.raises(RecipeError) as refused:
        load_recipe(path)
    assert message in str(refused.value)
