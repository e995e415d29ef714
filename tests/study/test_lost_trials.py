"""A trial that was lost twice in a row does not turn the course of a sweep: it is waited for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lrscale.launch import SilentProgress, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, TrialRecord
from lrscale.study import Study
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

RECIPE = """
name: lost
task: {model: {class_path: m.Net}}
experiments:
  range_test: null
  scaling: {batch_sizes: [32, 64], horizon: 2k examples, seeds: 2, validations: 2}
"""
GONE: dict[str, Any] = {"status": "crashed", "final_loss": None, "retryable": True, "reason": "rank 1 is gone"}


class Losing(SyntheticLauncher):
    """Loses one trial, counted from 1, as when its node goes twice."""

    lost_trial = 0

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        for record in super().run(requests, progress):
            yield dataclasses.replace(record, **GONE) if len(self.ran) == self.lost_trial else record


def run(path: Path, launcher: SyntheticLauncher) -> dict[str, tuple[str, float | None]]:
    Study(parse_recipe(RECIPE), StudyFolder(path)).run(launcher, progress=SilentProgress())
    return {name: (record.status, record.final_loss) for name, record in StudyFolder(path).records().items()}


@pytest.mark.parametrize("place", [2, 3, 4, 6, 9])
def test_a_sweep_waits_for_a_lost_trial_and_takes_the_undisturbed_course(tmp_path: Path, place: int) -> None:
    whole = run(tmp_path / "undisturbed", SyntheticLauncher(SyntheticStudy()))
    launcher = Losing(SyntheticStudy())
    launcher.lost_trial = place
    disturbed = run(tmp_path / "disturbed", launcher)
    assert ("crashed", None) in disturbed.values()
    assert disturbed.keys() <= whole.keys()
    assert run(tmp_path / "disturbed", SyntheticLauncher(SyntheticStudy())) == whole
