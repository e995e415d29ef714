"""The noise scale of a study, on trials whose gradients are simulated from a known truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from lrscale.launch import TrialRequest
from lrscale.laws.noise_scale import GradientSums, NoiseScale, RunNoiseScale, noise_scale, noise_scale_course
from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView, Trial, TrialRecord, TrialSpec
from lrscale.study import Finding, Study
from lrscale.study.noise_scale.cells import nearest_cells, noise_scale_cells
from lrscale.study.progress import AbstractProgress, SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

DIMENSION, COUNT = 30, 4


def true_scale(lr: float, batch_size: int) -> float:
    """Return the noise scale of the truth: it falls with LR / batch."""
    return float(1e-2 * np.sqrt(batch_size / lr) * batch_size)


def measure(spec: TrialSpec, most: int = 400) -> dict[str, Any]:
    """Return what the instrument would measure on a trial."""
    rng = np.random.default_rng([spec.seed, spec.global_batch_size, round(1e6 * spec.peak_lr)])
    steps = min(spec.horizon, most)
    examples = spec.global_batch_size / COUNT
    trace = true_scale(spec.peak_lr, spec.global_batch_size)
    drawn = np.sqrt(1 / DIMENSION) + rng.normal(0, np.sqrt(trace / DIMENSION / examples), (steps, COUNT, DIMENSION))
    sums = GradientSums(
        step=np.linspace(0, spec.horizon - 1, steps).astype(int),
        count=np.full(steps, COUNT),
        examples=np.full(steps, examples),
        mean_square=np.sum(drawn**2, axis=2).mean(axis=1),
        square_mean=np.sum(drawn.mean(axis=1) ** 2, axis=1),
    )
    missing = NoiseScale.not_measured("no optimizer of Adam's kind")

    def result(total: NoiseScale) -> dict[str, Any]:
        run = RunNoiseScale(
            total=total,
            groups={"group 0": total},
            preconditioned=missing,
            preconditioned_groups={},
            course=noise_scale_course(sums),
            notes=(),
        )
        return run.to_dict()

    return {"whole": result(noise_scale(sums)), "late": result(noise_scale(sums[steps // 2 :]))}


class Measuring(SyntheticLauncher):
    """Measures what rides on a trial as the study asks for it, and what the trial is there for."""

    def __init__(self, study: SyntheticStudy, most: int = 400) -> None:
        super().__init__(study)
        self.most = most
        self.own: list[TrialSpec] = []

    @override
    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        for request in requests:
            (record,) = super().run([request], progress)
            riding, own = (one.get("noise_scale") for one in (request.instruments, request.spec.instruments))
            if own is not None:
                self.own.append(request.spec)
                assert own["budget"] is None
            if own is not None or riding is not None:
                most = 400 if own is not None else self.most
                record = dataclasses.replace(record, measurements={"noise_scale": measure(request.spec, most)})
            yield record


def recipe(noise_scale: Any, riding: bool = True, **experiments: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "instruments": {"noise_scale": riding},
            "experiments": {
                "range_test": False,
                "scaling": {"batch_sizes": [64, 256], "horizon": "40k examples", "seeds": 2},
                "noise_scale": noise_scale,
                **experiments,
            },
        }
    )


def run(folder: Path, asked: Recipe, launcher: SyntheticLauncher) -> Finding:
    outcome = Study(asked, StudyFolder(folder)).run(launcher, progress=SilentProgress())
    return next(finding for finding in outcome.findings if finding.key == "noise_scale")


def test_trials_of_the_sweep_near_the_best_lr_are_combined_and_named(tmp_path: Path) -> None:
    launcher = Measuring(SyntheticStudy())
    found = run(tmp_path, recipe({}), launcher)
    assert launcher.own == []
    assert found.status == "ok"
    view = StudyView.of(StudyFolder(tmp_path))
    rows = {row["batch_size"]: row for row in found.tables["batch_sizes"]}
    assert list(rows) == [64, 256]
    for size, row in rows.items():
        assert abs(np.log2(row["lr"] / row["best_lr"])) <= 0.51
        members = [view.trials[one] for one in found.trial_ids if view.trials[one].spec.global_batch_size == size]
        assert {(one.spec.peak_lr, one.spec.schedule.name) for one in members} == {(row["lr"], "cosine")}
        assert len({one.spec.seed for one in members}) == len(members) == row["trials"] == 2
        assert row["lo"] < true_scale(row["lr"], size) < row["hi"]
        assert row["temperature"] == row["lr"] / size
    assert "noise-scale proxy" in found.sentence and "at batch 256" in found.sentence
    steps = found.numbers["steps_needed"].value
    total = NoiseScale.from_dict(found.data["cells"][0]["total"])
    assert steps == total.steps_needed(0.1)
    # Other LRs of the same sweep show how it moves with LR / batch.
    said = next(check.sentence for check in found.checks if check.name == "noise scale moves with the LR")
    assert "at batch 64 it was" in said


def test_without_measurements_it_trains_at_the_best_lr_and_a_second_run_trains_nothing(tmp_path: Path) -> None:
    launcher = Measuring(SyntheticStudy())
    asked = recipe({"seeds": 3}, riding=False)
    found = run(tmp_path, asked, launcher)
    assert [(one.global_batch_size, one.schedule.name, one.seed) for one in launcher.own] == [
        (64, "constant", seed) for seed in range(3)
    ]
    best = found.tables["batch_sizes"][0]["best_lr"]
    assert abs(np.log2(launcher.own[0].peak_lr / best)) <= 0.51
    ran = len(launcher.ran)
    assert run(tmp_path, asked, launcher) == found
    assert len(launcher.ran) == ran


def test_a_stated_setting_is_trained_whatever_else_is_there(tmp_path: Path) -> None:
    launcher = Measuring(SyntheticStudy())
    own = {"batch_sizes": [128, 512], "learning_rate": 3e-3, "horizon": "200 steps", "schedule": "cosine", "seeds": 1}
    found = run(tmp_path, recipe(own), launcher)
    assert {(one.global_batch_size, one.peak_lr, one.horizon) for one in launcher.own} == {
        (128, 3e-3, 200),
        (512, 3e-3, 200),
    }
    rows = {row["batch_size"]: row for row in found.tables["batch_sizes"]}
    # What the sweep measured stands beside it.
    assert {size: row["own"] for size, row in rows.items()} == {64: False, 128: True, 256: False, 512: True}
    assert found.data["headline"] == 128


def test_sparse_measurements_of_others_are_completed_by_trials_of_its_own(tmp_path: Path) -> None:
    launcher = Measuring(SyntheticStudy(), most=18)
    found = run(tmp_path, recipe({"batch_sizes": [64]}), launcher)
    assert {one.global_batch_size for one in launcher.own} == {64}
    assert found.data["headline"] == 64 and found.status == "ok"


def test_a_gradient_that_is_not_resolved_gives_a_lower_bound_and_what_it_would_take(tmp_path: Path) -> None:
    launcher = Measuring(SyntheticStudy())
    own = {"batch_sizes": [2], "learning_rate": 1e-7, "horizon": "60 steps"}
    found = run(tmp_path, recipe(own, scaling=None), launcher)
    assert found.status == "cannot_tell"
    assert "at least" in found.sentence and "not resolved" in found.sentence
    bound = found.numbers["noise_scale"]
    assert bound.value is None and bound.hi is None and bound.lo is not None
    assert bound.lo < true_scale(1e-7, 2)
    (warning,) = [check for check in found.checks if check.status == "WARNING"]
    assert "measured steps" in (warning.remedy or "")


def test_nothing_measured_is_said_with_its_reason(tmp_path: Path) -> None:
    found = run(tmp_path, recipe({"horizon": "20 steps"}), SyntheticLauncher(SyntheticStudy()))
    assert found.status == "cannot_tell"
    assert "no finished trial carried the instrument" in found.sentence


def test_ramps_and_diverged_trials_are_left_out_and_seeds_are_put_together() -> None:
    study = SyntheticStudy(batch_sizes=(64,), schedules=("constant",), throughput=False)
    trials = [
        Trial(
            spec,
            TrialRecord(
                trial_id=spec.trial_id,
                status="diverged" if spec.peak_lr > 0.05 else "completed",
                final_loss=None if spec.peak_lr > 0.05 else abs(np.log(spec.peak_lr / 3e-3)),
                measurements={"noise_scale": measure(spec, 50)},
            ),
        )
        for spec in study.specs()
    ]
    cells = noise_scale_cells(reversed(trials))
    assert all(cell.lr <= 0.05 and cell.schedule != "ramp" for cell in cells)
    assert {len(cell.trials) for cell in cells} == {study.seeds}
    assert noise_scale_cells(trials) == cells
    rates = sorted({cell.lr for cell in cells})
    assert nearest_cells(cells, {64: rates[0] * 1.1}, None)[64].lr == rates[0]
    # Without a best LR the lowest loss decides.
    assert nearest_cells(cells, {}, "constant")[64].lr == min(rates, key=lambda lr: abs(np.log(lr / 3e-3)))
    assert nearest_cells(cells, {}, "constant")[64].schedule == "constant"


@pytest.mark.parametrize("wrong", ["{precision: 1}", "{batch_sizes: []}", "{horizon: 400}", "{schedule: ramp}"])
def test_wrong_settings_are_refused_with_their_field(wrong: str) -> None:
    from lrscale.errors import RecipeError
    from lrscale.recipe import parse_recipe

    with pytest.raises(RecipeError, match=r"line 3: experiments.noise_scale"):
        parse_recipe(f"name: demo\ntask: {{model: {{class_path: a.B}}}}\nexperiments: {{noise_scale: {wrong}}}\n")
