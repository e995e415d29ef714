"""Memory probes in real groups of two: one rank runs out, and only its probe ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study, StudyOutcome
from lrscale.study.finding import Finding

from .conftest import TASKS, descendants

PLACES = ("forward", "backward", "optimizer step", "validation")
OFTEN = ("forward", "validation")
"""Places tried in every run of the tests; the others go the same way."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    with LocalLauncher(LaunchSettings(root=TASKS, preload=("hungry",), accelerator="cpu")) as shared:
        yield shared


def run(
    launcher: LocalLauncher, folder: Path, memory: dict[str, Any], *, kind: str = "Hungry", most: int, **init: Any
) -> tuple[StudyOutcome, Finding, StudyView]:
    recipe = Recipe.model_validate(
        {
            "name": "hungry",
            "task": {
                "model": {"class_path": f"hungry.{kind}", "init_args": init},
                "data": {"class_path": "hungry.Points"},
                "monitor": "val_loss",
            },
            "layout": {"devices": 2, "max_per_device_batch_size": most},
            "experiments": {"memory": memory, "range_test": None, "equivalence": None},
        }
    )
    study = StudyFolder(folder)
    outcome = Study(recipe, study).run(launcher, experiments=["memory"], progress=SilentProgress())
    return outcome, outcome.findings[0], StudyView.of(study)


def assert_none_is_left(launcher: LocalLauncher, keepers: list[int]) -> None:
    assert launcher._server is not None and launcher._server._process is not None
    assert descendants(launcher._server._process.pid) == keepers


def keepers_of(launcher: LocalLauncher) -> list[int]:
    assert launcher._server is not None and launcher._server._process is not None
    return descendants(launcher._server._process.pid)


@pytest.mark.parametrize(
    "place", [one if one in OFTEN else pytest.param(one, marks=pytest.mark.slow) for one in PLACES]
)
def test_a_rank_that_runs_out_ends_its_probe_and_no_other(launcher: LocalLauncher, tmp_path: Path, place: str) -> None:
    began = time.monotonic()
    settings = {"start": 4, "margin": 0, "steps": 2}
    outcome, finding, view = run(launcher, tmp_path, settings, most=6, place=place, rank=1)
    elapsed = time.monotonic() - began
    trials = {trial.spec.layout.per_device_batch_size: trial.record for trial in view if trial.spec.layout is not None}
    assert {size: record.status for size, record in trials.items()} == {
        4: "completed",
        5: "completed",
        6: "out_of_memory",
    }
    assert trials[6].measurements["memory"]["ended_in"] == place
    facts = StudyFolder(tmp_path).read_plan()["facts"]
    assert (facts["validation_examples"], facts["validation_drops_last"]) == (2048, False)
    assert finding.numbers["max_per_device_batch_size"].value == 5
    assert finding.numbers["largest_that_ran"].hi == 5
    assert (outcome.failed, outcome.ran) == (0, 3)
    # The other rank waits in a collective for as long as nobody ends it: the group's grace of 5 s and some.
    assert trials[6].timing["total"] < 20
    assert elapsed < 90
    assert_none_is_left(launcher, keepers_of(launcher)[:1])


@pytest.mark.slow
def test_a_limit_on_the_resident_set_is_found_on_cpu(launcher: LocalLauncher, tmp_path: Path) -> None:
    unlimited = {"start": 8, "margin": 0, "steps": 2}
    _, finding, view = run(launcher, tmp_path / "free", unlimited, kind="Glutton", most=160)
    peaks = {row["per_device_batch_size"]: row["peak"] for row in finding.tables["probes"]}
    assert max(peaks) == 160
    # Five tensors of 1 MiB an example live in the backward; glibc keeps and reuses some of what was freed.
    slope = finding.numbers["memory_per_example"]
    assert slope.value is not None
    assert 3 * 2**20 < slope.value < 8 * 2**20
    limit = int(peaks[160] - 80 * slope.value)
    _, finding, view = run(launcher, tmp_path / "limited", {**unlimited, "limit": limit}, kind="Glutton", most=160)
    size = finding.numbers["max_per_device_batch_size"].value
    assert size is not None
    assert 52 <= size <= 108
    for trial in view:
        if trial.record.status == "completed":
            assert trial.record.measurements["memory"]["peak"] <= limit
        else:
            assert "MiB that a rank may use" in (trial.record.reason or "")
