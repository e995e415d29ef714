"""Range tests of real trials: from the recipe over ramps and fixed LRs to a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lrscale_test_trials import TESTS, Trials, make_task
from trial_modules import points

from lrscale.recipe import Recipe
from lrscale.store import StudyFolder
from lrscale.study import Study
from lrscale.study.finding import Finding
from lrscale.study.progress import SilentProgress

MOMENTUM = 0.5


def run(trials: Trials, folder: Path, task: dict[str, Any], *, devices: int = 1, **settings: Any) -> Finding:
    recipe = Recipe.model_validate(
        {
            "name": "real",
            "task": {**task, "import_paths": ["training", "strangers"]},
            "layout": {"devices": devices},
            "experiments": {"range_test": settings},
        }
    ).placed(root=TESTS, text="", source="recipe.yaml", lines={})
    study = Study(recipe, StudyFolder(folder))
    return study.run(trials.launcher, experiments=["range_test"], progress=SilentProgress()).findings[0]


@pytest.mark.slow
def test_the_edge_of_a_quadratic_is_where_theory_puts_it(trials: Trials, tmp_path: Path) -> None:
    # Linear regression on the whole set: heavy ball is stable up to (2 + 2 m) / sharpness (Cohen et al. 2021,
    # arXiv:2103.00065), and the largest curvature is known.
    inputs = points()[0]
    sharpness = float(torch.linalg.eigvalsh(2 * inputs.T @ inputs / len(inputs)).max())
    edge = (2 + 2 * MOMENTUM) / sharpness
    finding = run(
        trials,
        tmp_path,
        make_task(init={"lr": 0.01}, monitor="val_loss"),
        devices=2,
        batch_size=64,
        seeds=2,
        lr_min=1e-5,
        confirm={"steps": 60, "warmup_fraction": 0},
    )
    row = finding.tables["batch_sizes"][0]
    assert row["trained_up_to"] <= edge <= row["diverged_at"]
    assert row["diverged_at"] / row["trained_up_to"] <= 2.01
    # A ramp passes the edge in a few steps and notices late.
    assert row["unstable_at"] >= 0.9 * edge
    assert 0 < row["lowest_tested"] < edge


@pytest.mark.slow
def test_the_optimizers_of_a_module_that_steps_them_itself_are_ramped_one_at_a_time(
    trials: Trials, tmp_path: Path
) -> None:
    task = make_task(
        "stranger_modules.Adversarial",
        "stranger_data.Blobs",
        trainer={"strategy": "ddp_find_unused_parameters_true"},
        monitor="val_loss",
    )
    settings = {"seeds": 1, "steps": 40, "lr_min": 1e-5, "lr_max": 1.0, "batch_size": 16, "confirm": False}
    curves = []
    for number, own in enumerate([0.01, 4e-3]):
        folder = tmp_path / str(number)
        finding = run(trials, folder, task, devices=2, optimizer=number, **settings)
        curves.append(finding.data["family"][0]["curves"][0])
        (record,) = StudyFolder(folder).records().values()
        assert record.facts["optimizers"] == ["Adam", "Adam"]
        assert record.facts["group_lrs"] == pytest.approx([own])
    first, second = (curve["loss"][: min(len(curve["loss"]) for curve in curves)] for curve in curves)
    assert first != second
    assert first[0] == pytest.approx(second[0], rel=0.05)


def test_a_validation_staircase_is_validated_after_every_rung(trials: Trials, tmp_path: Path) -> None:
    settings = {"seeds": 1, "steps": 60, "hold": 4, "lr_min": 1e-3, "lr_max": 0.5, "confirm": False}
    finding = run(trials, tmp_path, make_task(), batch_size=16, monitor="validation", **settings)
    curve = finding.data["family"][0]["curves"][0]
    assert finding.data["monitor"] == "val_loss"
    assert len(curve["lr"]) == len(curve["loss"]) == 15
    assert curve["lr"] == pytest.approx([1e-3 * 500 ** (rung / 14) for rung in range(15)])
    trajectory = StudyFolder(tmp_path).trajectory(curve["trial_id"])
    assert trajectory.points("val_loss")[0].tolist() == [4 * rung for rung in range(1, 16)]
    assert curve["loss"] == pytest.approx(trajectory.points("val_loss")[1].tolist())
