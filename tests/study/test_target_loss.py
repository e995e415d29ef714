"""Steps to a target loss, from trials whose critical batch size and step times are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.launch import TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.laws.steps import StepsFit
from lrscale.recipe import Recipe
from lrscale.recommend import Recommendation, recommend
from lrscale.store import StudyFolder, StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.store.trajectory import PARQUET_NAME
from lrscale.study import Study
from lrscale.study.finding import Finding
from lrscale.study.progress import SilentProgress
from lrscale.study.target_loss.crossings import Curve, choose_target, read_curves
from lrscale.testing.synthetic import SyntheticStudy, _record
from lrscale.testing.synthetic_launcher import SyntheticLauncher

CRITICAL = 128.0
SIZES = (16, 32, 64, 128, 256)
SETTINGS = SyntheticStudy()


def losses(spec: TrialSpec, steps: np.ndarray) -> np.ndarray:
    """Return losses for which the steps to any loss are proportional to 1 + CRITICAL / batch, at the best LR."""
    x = spec.peak_lr / (1.3e-3 * math.sqrt(spec.global_batch_size / 64))
    luck = np.random.default_rng([spec.seed, 5]).normal() + np.random.default_rng([int(spec.trial_id[:8], 16)]).normal()
    speed = math.exp(-0.3 * math.log(x) ** 2 + 0.01 * luck) / (5 * (1 + CRITICAL / spec.global_batch_size))
    return np.asarray(0.5 + 2 * (1 + steps * speed) ** -0.5)


class HyperbolaLauncher(SyntheticLauncher):
    """Trials whose steps take 3 ms and 40 microseconds an example."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for request in requests:
            spec = request.spec
            every = spec.validate_every or spec.horizon
            step = np.unique([*range(every, spec.horizon + 1, every), spec.horizon]).astype(np.float64)
            nan = np.full(step.size, np.nan)
            columns = {
                "step": step,
                "examples": step * spec.global_batch_size,
                "global_batch_size": np.full(step.size, float(spec.global_batch_size)),
                "seconds": step * (3e-3 + 4e-5 * spec.global_batch_size),
                "lr": np.full(step.size, spec.peak_lr),
                "train_loss": nan,
                "val_loss": losses(spec, step),
            }
            pq.write_table(pa.table(columns), request.folder / PARQUET_NAME)
            yield dataclasses.replace(
                _record(SETTINGS, spec, request.layout, {**columns, "train_loss": columns["val_loss"]}, "completed"),
                measurements={},
            )


def recipe(*, schedule: str = "constant", sizes: Sequence[int] = SIZES, **target: Any) -> Recipe:
    scaling = {"batch_sizes": list(sizes), "horizon": "40960 examples", "schedule": schedule}
    return Recipe.model_validate(
        {
            "name": "hyperbola",
            "task": SETTINGS.task,
            "experiments": {"range_test": False, "equivalence": False, "scaling": scaling},
            "target": target,
        }
    )


def ran(asked: Recipe, folder: Path) -> None:
    Study(asked, StudyFolder(folder)).run(HyperbolaLauncher(SETTINGS), progress=SilentProgress())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    ran(recipe(), path)
    return path


def answered(folder: Path, **target: Any) -> tuple[Finding, Recommendation]:
    asked = recipe(**target)
    view = StudyView.of(StudyFolder(folder))
    (finding,) = Study(asked, StudyFolder(folder)).analyse(view)
    found = recommend(asked, view, [finding])
    assert isinstance(found, Recommendation)
    return finding, found


def test_the_critical_batch_size_lies_in_its_interval(folder: Path) -> None:
    finding, _ = answered(folder)
    critical = finding.numbers["critical_batch"]
    assert critical.lo is not None and critical.hi is not None
    assert critical.lo < CRITICAL < critical.hi
    assert critical.value == pytest.approx(CRITICAL, rel=0.15)
    data = finding.data["target_loss"]
    assert not data["stated"] and {row["batch_size"] for row in data["runs"]} == set(SIZES)


def test_steps_at_each_batch_size_are_those_of_the_closed_form(folder: Path) -> None:
    finding, _ = answered(folder, loss=1.2)
    fit = StepsFit.from_dict(finding.data["target_loss"]["fit"])
    # 0.5 + 2 (1 + s / (5 (1 + CRITICAL / B)))^-0.5 = 1.2
    truth = [5 * (1 + CRITICAL / size) * ((2 / 0.7) ** 2 - 1) for size in SIZES]
    np.testing.assert_allclose(fit.predict(SIZES)[0], truth, rtol=0.06)


# Time is (1 + 128 / B)(3 ms + 0.04 ms B), least at 128 of these sizes; with 5,000 examples for a second the sum is
# (1 + 128 / B)(B + 15 + 0.2 B), least at 32.
@pytest.mark.parametrize(
    ("target", "best"),
    [
        ({"objective": "loss"}, 16),
        ({"objective": "time", "loss": 1.2}, 128),
        ({"objective": "cost"}, 128),
        ({"objective": "time_price", "time_price": 5000.0}, 32),
        ({"objective": "time_price", "time_price": 1e-3}, 16),
    ],
)
def test_each_objective_has_the_batch_size_of_its_closed_form(folder: Path, target: dict[str, Any], best: int) -> None:
    _, found = answered(folder, **target)
    assert found.global_batch_size == best, found.reasons


def test_the_two_questions_are_answered_apart(folder: Path) -> None:
    _, found = answered(folder, objective="time", loss=1.2)
    said = " ".join(found.reasons)
    assert "Batch 16 has the lowest loss of the 5 batch sizes at equal examples." in said
    assert "To reach loss 1.2, batch 128 is the fastest of 5 batch sizes" in said
    _, by_loss = answered(folder, objective="loss")
    assert "batch 128 is the fastest" in " ".join(by_loss.reasons)


def test_a_loss_that_too_few_batch_sizes_reach_is_refused_with_one_that_they_do(folder: Path) -> None:
    finding, found = answered(folder, objective="time", loss=0.6)
    data = finding.data["target_loss"]
    assert data["fit"] is None and "0 of 5 batch sizes are seen to come down to loss 0.6, and" in data["reason"]
    assert "or name a higher target.loss, such as 0.95" in data["needs"]
    assert "The choice is by time at equal examples" in " ".join(found.reasons)


def test_a_loss_that_runs_begin_below_asks_for_a_lower_one(folder: Path) -> None:
    finding, _ = answered(folder, loss=2.0)
    data = finding.data["target_loss"]
    assert data["fit"] is None
    assert "0 of 5 batch sizes are seen to come down to loss 2, 5 are there at their first validation" in data["reason"]
    assert data["needs"].startswith("name a lower target.loss, such as 0.95")


def refusal(folder: Path, change: Callable[[Trial], Trial], load: Callable[[str], Trajectory] | None = None) -> str:
    asked, stored = recipe(), StudyView.of(StudyFolder(folder))
    view = StudyView({name: change(one) for name, one in stored.trials.items()}, load or stored.load_trajectory)
    (finding,) = Study(asked, StudyFolder(folder)).analyse(view)
    assert finding.data["target_loss"]["fit"] is None
    return str(finding.data["target_loss"]["reason"])


def test_trials_without_validations_are_refused(folder: Path) -> None:
    assert "a trial has 0 validations" in refusal(folder, lambda trial: trial, lambda _: Trajectory())


def test_batch_sizes_none_of_whose_trials_completed_do_not_count(folder: Path) -> None:
    def diverge(trial: Trial) -> Trial:
        if trial.spec.global_batch_size == 16:
            return trial
        return Trial(trial.spec, dataclasses.replace(trial.record, status="diverged", final_loss=None))

    assert "1 batch sizes have trials that completed" in refusal(folder, diverge)


@pytest.fixture(scope="module")
def annealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("annealed")
    ran(recipe(schedule="cosine", sizes=(16, 64, 256)), path)
    return path


def test_trials_that_anneal_to_their_end_are_refused(annealed: Path) -> None:
    finding, found = answered(annealed, schedule="cosine", sizes=(16, 64, 256), objective="time", loss=1.2)
    data = finding.data["target_loss"]
    assert data["fit"] is None and data["runs"] == []
    assert "cosine schedule, built for their whole length" in data["reason"]
    assert "experiments.scaling.schedule=constant" in data["needs"]
    assert data["reason"] in " ".join(found.reasons)


def test_nothing_is_said_where_nothing_asks(annealed: Path) -> None:
    finding, _ = answered(annealed, schedule="cosine", sizes=(16, 64, 256))
    assert "target_loss" not in finding.data


def curve(batch: int, losses: Sequence[float], lr: float = 0.1, seed: int = 0) -> Curve:
    steps = np.linspace(0, 1, len(losses) + 1)[1:] * 6400 / batch
    return Curve(
        trial_id=f"{batch}-{lr}-{seed}",
        batch_size=batch,
        lr=lr,
        seed=seed,
        horizon=6400 // batch,
        steps=steps,
        loss=np.array(losses, dtype=np.float64),
    )


def test_a_batch_size_that_hardly_trains_does_not_set_the_target() -> None:
    share = np.arange(1, 11) / 10
    good = {size: [curve(size, (3 - (2 - size / 64) * share).tolist())] for size in (16, 32, 64)}
    target = choose_target(good)
    assert target == pytest.approx(3 - 0.9)
    # At a tenth of the fall the others are there before a fifth of their runs.
    assert choose_target({**good, 128: [curve(128, (3 - 0.1 * share).tolist())]}) == target
    assert choose_target({16: good[16], 32: good[32]}) is None


def test_only_learning_rates_with_as_many_seeds_as_any_count(folder: Path) -> None:
    view = StudyView.of(StudyFolder(folder))
    some = [trial for trial in view if trial.spec.global_batch_size == 64]
    curves = read_curves(some, view.load_trajectory)
    seeds = {lr: {one.seed for one in curves if one.lr == lr} for lr in {one.lr for one in curves}}
    assert set(map(len, seeds.values())) == {3}
    assert len({trial.spec.peak_lr for trial in some}) > len(seeds)
    assert read_curves(some, lambda _: Trajectory())[0].steps.size == 0


@pytest.mark.parametrize("target", [{"objective": "time_price"}, {"time_price": 3.0}])
def test_a_price_of_time_and_its_objective_go_together(target: dict[str, Any]) -> None:
    with pytest.raises((LrscaleError, ValueError), match="time_price"):
        recipe(**target)
