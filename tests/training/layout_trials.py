"""Runs layout checks of test modules through real trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrscale_test_trials import TESTS, Trials

from lrscale.launch import SilentProgress
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder
from lrscale.study import Finding, Study


def check(
    trials: Trials,
    folder: Path,
    model: str,
    data: str = "Blobs",
    *,
    init: Mapping[str, Any] | None = None,
    data_init: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    devices: int = 2,
    batch: int = 8,
    task: Mapping[str, Any] | None = None,
) -> Finding:
    """Return what the layout check says of a module of `layout_modules`, or of a whole task."""
    named = {
        "model": {"class_path": f"layout_modules.{model}", "init_args": dict(init or {})},
        "data": {"class_path": f"layout_modules.{data}", "init_args": dict(data_init or {})},
        "trainer": dict(trainer or {}),
    }
    plain = {
        "name": "check",
        "task": dict(task or named),
        "layout": {"devices": devices, "accelerator": "cpu"},
        "experiments": {"range_test": False, "equivalence": {"batch_size": batch}},
    }
    recipe = Recipe.model_validate(plain).placed(root=TESTS, text="", source="check.yaml", lines={})
    outcome = Study(recipe, StudyFolder(folder)).run(trials.launcher, progress=SilentProgress())
    (finding,) = outcome.findings
    return finding
