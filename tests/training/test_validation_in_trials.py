"""When validation runs, on what, and which number is kept."""

from __future__ import annotations

from typing import Any

import pytest
from lrscale_test_trials import Trials, make_spec, make_task, read_lines

from lrscale.units import Layout


@pytest.mark.parametrize(
    ("every", "horizon", "expected"),
    [
        (5, 12, [5, 10, 12]),
        (4, 12, [4, 8, 12]),
        (8, 16, [8, 16]),
        (0, 12, [12]),
        (100, 12, [12]),
        (1, 3, [1, 2, 3]),
        (None, 12, []),
    ],
)
def test_validation_runs_at_its_cadence_and_once_at_the_horizon(
    trials: Trials, every: int | None, horizon: int, expected: list[int]
) -> None:
    ran = trials.one(make_spec(horizon=horizon, every=every))
    assert ran.record.status == "completed"
    assert ran.validation_steps == expected
    if expected:
        steps, losses = ran.trajectory.points("val_loss")
        assert ran.record.final_loss == losses[-1]
        assert ran.record.best_loss == min(losses)
        assert list(ran.trajectory.points("val_loss", "examples")[0]) == [8 * step for step in steps]


@pytest.mark.parametrize("layout", [Layout(per_device_batch_size=2, accumulate=2, devices=2)])
def test_cadence_counts_steps_and_not_forwards(trials: Trials, layout: Layout) -> None:
    ran = trials.run((make_spec(horizon=11, every=5), layout))[0]
    assert ran.validation_steps == [5, 10, 11]


def test_validation_does_not_change_with_the_batch(trials: Trials, tmp_path: Any) -> None:
    seen = []
    for batch in (4, 16):
        folder = tmp_path / str(batch)
        task = make_task(init={"record": str(folder)}, data_init={"batch_size": 10})
        ran = trials.one(make_spec(task, batch=batch, horizon=3))
        seen.append(([line["ids"] for line in read_lines(folder / "val-0.jsonl")], ran.record.facts["validation_hash"]))
    assert seen[0] == seen[1]
    assert [len(ids) for ids in seen[0][0]] == [10, 10, 1]


def test_training_examples_are_held_back_where_there_is_no_validation_data(trials: Trials, tmp_path: Any) -> None:
    for name in ("TrainOnly", "EmptyValidation"):
        folder = tmp_path / name
        task = make_task(init={"record": str(folder)}, data=f"trial_modules.{name}")
        ran = trials.one(make_spec(task, horizon=14))
        assert ran.record.status == "completed", ran.record.reason
        assert ran.warned("held back")
        assert ran.record.monitor == "val_loss"
        trained = {example for line in read_lines(folder / "train-0.jsonl") for example in line["ids"]}
        validated = {example for line in read_lines(folder / "val-0.jsonl") for example in line["ids"]}
        assert len(validated) == 6
        assert not trained & validated


def test_without_validation_the_mean_of_the_last_tenth_of_training_is_kept(trials: Trials) -> None:
    ran = trials.one(make_spec(make_task("trial_modules.NoValidation"), horizon=30))
    assert ran.record.monitor == "train_loss"
    assert ran.record.final_loss == pytest.approx(sum(ran.train_losses[-3:]) / 3)
    assert ran.warned("last tenth")


def test_what_validation_returns_is_taken_where_it_logs_nothing(trials: Trials) -> None:
    ran = trials.one(make_spec(make_task("trial_modules.ReturnsOnly"), horizon=5))
    logged = trials.one(make_spec(make_task(), horizon=5))
    assert ran.record.monitor == "returned loss"
    assert ran.record.final_loss == pytest.approx(logged.record.final_loss, rel=1e-6)
    assert ran.warned("the mean of what validation_step returns")


def test_negative_losses_are_losses(trials: Trials) -> None:
    ran = trials.one(make_spec(make_task(init={"offset": 100.0}), horizon=30, every=10))
    plain = trials.one(make_spec(make_task(), horizon=30, every=10))
    assert ran.record.status == "completed"
    assert ran.record.final_loss == pytest.approx(plain.record.final_loss - 100, rel=1e-5)
    assert -100 <= ran.record.final_loss < ran.record.initial_loss < -90


def test_splits_drawn_in_setup_are_the_same_for_every_seed_and_rank(trials: Trials, tmp_path: Any) -> None:
    validated = []
    for seed, devices in ((0, 1), (1, 1), (0, 2)):
        folder = tmp_path / f"{seed}-{devices}"
        task = make_task(init={"record": str(folder)}, data="trial_modules.Split")
        layout = Layout(per_device_batch_size=8 // devices, devices=devices)
        trials.run((make_spec(task, horizon=3, seed=seed), layout))
        validated += [[line["ids"] for line in read_lines(folder / f"val-{rank}.jsonl")] for rank in range(devices)]
    assert len(validated) == 4
    assert all(one == validated[0] for one in validated)
