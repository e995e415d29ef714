"""The parameters of a target's module are those that it has, whenever it makes them, and cost no training."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import TaskError
from lrscale.launch import LAUNCHERS, LaunchSettings
from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.study.looking import TARGET_FACTORS, TARGET_PARAMETERS, look_at
from lrscale.training.inspect import inspect_task
from lrscale.training.target_size import bare_sizes
from lrscale.training.trial import Job
from lrscale.units import Layout

WIDTH = "task.model.init_args.width"


def task(name: str, width: int) -> dict[str, Any]:
    return {
        "model": {"class_path": f"tests.training.target_modules.{name}", "init_args": {"width": width}},
        "data": {"class_path": "tests.training.target_modules.Points"},
        "trainer": {},
    }


def job(folder: Path, name: str, width: int, known: int | None) -> Job:
    return Job(
        spec=TrialSpec(
            task=task(name, width),
            schedule=ScheduleSpec(name="constant"),
            peak_lr=1e-3,
            global_batch_size=2,
            horizon=1,
            seed=0,
        ),
        layout=Layout(per_device_batch_size=2),
        folder=folder,
        root=Path.cwd(),
        import_paths=(".",),
        accelerator="cpu",
        rank=0,
        purpose="inspect",
        calibrated=None if known is None else {"task": task(name, 4), "parameters": known},
    )


def parameters(width: int) -> int:
    return 8 * width + width + 2 * width + 2


@pytest.mark.parametrize("name", ["Plain", "Configured", "ReadsValues"])
def test_a_bare_module_tells_its_size(tmp_path: Path, name: str) -> None:
    asked = job(tmp_path, name, 1000, parameters(4))
    assert asked.calibrated is not None
    sizes = bare_sizes(asked, asked.calibrated)
    assert sizes is not None and sizes["parameters"] == parameters(1000)


def test_layers_that_a_trainer_has_made_are_counted_by_a_look_at_the_whole_task(tmp_path: Path) -> None:
    asked = job(tmp_path, "Late", 1000, parameters(4))
    assert asked.calibrated is not None
    assert bare_sizes(asked, asked.calibrated) is None
    assert inspect_task(asked)["parameters"] == parameters(1000)


def test_a_language_model_of_two_billion_parameters_is_counted_without_their_memory(tmp_path: Path) -> None:
    def gpt(width: int, depth: int) -> dict[str, Any]:
        return {
            "model": {"class_path": "lrscale.zoo.ByteGPT", "init_args": {"width": width, "depth": depth, "heads": 2}},
            "data": {"class_path": "lrscale.zoo.PythonSource"},
            "trainer": {},
        }

    plain = job(tmp_path, "Plain", 4, None)
    small = inspect_task(dataclasses.replace(plain, spec=dataclasses.replace(plain.spec, task=gpt(64, 2))))
    calibrated = {"task": gpt(64, 2), "parameters": small["parameters"]}
    large = dataclasses.replace(plain, spec=dataclasses.replace(plain.spec, task=gpt(4096, 10)), calibrated=calibrated)
    before = time.process_time()
    sizes = bare_sizes(large, calibrated)
    assert sizes is not None
    # 12 width^2 a block, and what does not grow with the depth.
    assert sizes["parameters"] == pytest.approx(10 * 12 * 4096**2, rel=0.01)
    assert time.process_time() - before < 5


def recipe(name: str, width: int) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "demo",
            "task": {**task(name, 4), "monitor": "train_loss"},
            "experiments": {
                "range_test": None,
                "forecast": {"factors": {WIDTH: [4, 8]}, "horizons": ["16 examples"], "batch_sizes": [2]},
            },
            "target": {"factors": {WIDTH: width}, "horizon": "64 examples"},
        }
    )


def test_a_study_counts_once_and_again_for_another_target(tmp_path: Path) -> None:
    known = {"parameters": parameters(4), "notes": []}
    with LAUNCHERS["local"](LaunchSettings(root=Path.cwd())) as launcher:
        facts = look_at(recipe("Plain", 50), known, launcher, tmp_path)
        assert facts == {**known, TARGET_FACTORS: {WIDTH: 50}, TARGET_PARAMETERS: parameters(50)}
        inspected = (tmp_path / "inspect").stat().st_mtime_ns
        assert look_at(recipe("Plain", 50), facts, launcher, tmp_path) == facts
        assert (tmp_path / "inspect").stat().st_mtime_ns == inspected
        assert look_at(recipe("Plain", 60), facts, launcher, tmp_path)[TARGET_PARAMETERS] == parameters(60)
        with pytest.raises(TaskError, match=r"target\.factors: .*width above 100"):
            look_at(recipe("Broken", 200), known, launcher, tmp_path)
