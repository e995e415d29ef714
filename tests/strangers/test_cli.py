"""Configs of LightningCLI, of the user's own CLI, and of the user's program, run as they are."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from lrscale_test_trials import Ran, Trials, make_spec

from lrscale.errors import TaskError
from lrscale.units import Layout

TWO = Layout(per_device_batch_size=8, devices=2)
STOCK = {
    "seed_everything": 42,
    "model": {"class_path": "stranger_modules.Plain", "init_args": {"lr": "1e-2", "width": 6}},
    "data": {"class_path": "stranger_data.Blobs", "init_args": {"batch_size": 32}},
    "trainer": {"max_epochs": 3, "devices": 4, "strategy": "ddp", "gradient_clip_val": 1.0},
    "ckpt_path": None,
}


def train(trials: Trials, tmp_path: Path, config: dict[str, Any], layout: Layout | None = None, **task: Any) -> Ran:
    changed = {key: task.pop(key) for key in ("seed", "lr_value", "schedule") if key in task}
    path = tmp_path / f"config-{len(list(tmp_path.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(config))
    spec = make_spec(
        {"config": str(path), **task},
        batch=16,
        horizon=8,
        seed=changed.get("seed", 0),
        lr=changed.get("lr_value", 0.05),
        schedule=changed.get("schedule", "constant"),
    )
    ran = trials.one(spec, layout)
    assert ran.record.status == "completed", (ran.record.reason, ran.record.log_tail)
    return ran


def test_a_config_of_the_stock_cli_trains_on_one_rank_and_on_two(trials: Trials, tmp_path: Path) -> None:
    one, two = train(trials, tmp_path, STOCK), train(trials, tmp_path, STOCK, TWO)
    assert one.record.facts["batch_size_home"] == "data.batch_size"
    assert one.record.facts["own_batch_size"] == 32
    assert one.record.facts["reference_lr"] == pytest.approx(0.01)
    assert one.record.facts["parameters"] == 4 * 6 + 6 + 6 * 3 + 3
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-5)
    assert two.record.final_loss == pytest.approx(one.record.final_loss, rel=1e-5)


def test_seeds_of_trials_win_over_the_seed_in_the_file(trials: Trials, tmp_path: Path) -> None:
    first, again, other = (train(trials, tmp_path, STOCK, seed=seed) for seed in (0, 0, 1))
    assert first.train_losses == again.train_losses
    assert first.train_losses[0] != other.train_losses[0]


def test_a_file_that_keeps_everything_under_its_subcommand_is_read(trials: Trials, tmp_path: Path) -> None:
    nested = train(trials, tmp_path, {"fit": STOCK})
    assert nested.train_losses == train(trials, tmp_path, STOCK).train_losses


def test_an_lr_in_the_config_is_set_there(trials: Trials, tmp_path: Path) -> None:
    ran = train(trials, tmp_path, STOCK, lr="model.init_args.lr", lr_value=0.02)
    assert ran.record.facts["reference_lr"] == pytest.approx(0.02)


def test_entries_of_the_config_can_be_set_otherwise(trials: Trials, tmp_path: Path) -> None:
    wide = train(trials, tmp_path, STOCK, overrides={"model": {"init_args": {"width": 12}}})
    assert wide.record.facts["parameters"] == 4 * 12 + 12 + 12 * 3 + 3


@pytest.mark.parametrize("cli", ["stranger_cli.FixedCLI", "stranger_cli:FixedCLI"])
def test_a_subclass_of_the_cli_links_and_fills_its_arguments(trials: Trials, tmp_path: Path, cli: str) -> None:
    # The program fixes both classes, so the config has their arguments alone.
    config = {"model": {"lr": 0.01}, "data": {"batch_size": 32}, "total": 42}
    ran = train(trials, tmp_path, config, cli=cli)
    assert ran.record.facts["module"] == "stranger_cli.Linked"
    assert ran.record.facts["batch_size_home"] == "data.batch_size"
    assert ran.warned("callback EarlyStopping does not run in trials")
    assert ran.record.steps == 8


def test_a_program_runs_by_its_main_function(trials: Trials, tmp_path: Path) -> None:
    config = {"model": {"lr": 0.01}, "data": {"batch_size": 32}, "trainer": {"max_epochs": 2}}
    one = train(trials, tmp_path, config, cli="stranger_cli.main")
    two = train(trials, tmp_path, config, TWO, cli="stranger_cli:main")
    other = train(trials, tmp_path, config, cli="stranger_cli.main", seed=1)
    assert one.record.facts["flavour"] == "pytorch_lightning"
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-5)
    assert one.train_losses[0] != other.train_losses[0]
    assert one.warned("callback LearningRateMonitor does not run in trials")
    assert not one.warned("SaveConfigCallback")


def test_an_optimizer_and_a_scheduler_of_the_config_are_used(trials: Trials, tmp_path: Path) -> None:
    config = {
        "data": {"batch_size": 32},
        "optimizer": {"lr": 0.01, "weight_decay": 0.3},
        "lr_scheduler": {"gamma": 0.5},
    }
    ran = train(trials, tmp_path, config, cli="stranger_cli.OptimizerCLI", lr="optimizer.lr", lr_value=0.02)
    assert ran.record.facts["optimizers"] == ["AdamW"]
    assert ran.record.facts["reference_lr"] == pytest.approx(0.02)
    assert ran.warned("ExponentialLR is replaced")


@pytest.mark.parametrize(
    ("changed", "task", "message"),
    [
        ({"model": {"class_path": "stranger_modules.Plan"}}, {}, "has no Plan"),
        ({"trainer": {"max_step": 3}}, {}, "max_step"),
        ({"model": {"class_path": "stranger_modules.Plain", "init_args": {"widht": 3}}}, {}, "widht"),
        ({}, {"cli": "stranger_cli.main_without_a_cli"}, "built no LightningCLI"),
        ({"model": {"lr": 0.1}}, {}, "names no model.class_path"),
    ],
)
def test_a_config_that_its_cli_refuses_is_told_in_its_words(
    trials: Trials, tmp_path: Path, changed: dict[str, Any], task: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError) as caught:
        train(trials, tmp_path, {**STOCK, **changed}, **task)
    assert message in str(caught.value)


def test_a_config_that_is_not_there_is_named(trials: Trials) -> None:
    with pytest.raises(TaskError, match=r"nowhere.yaml cannot be read"):
        trials.one(make_spec({"config": "nowhere.yaml"}))


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_the_private_method_that_is_held_back_is_still_there(package: str) -> None:
    import importlib

    kind = importlib.import_module(f"{package}.cli").LightningCLI
    assert callable(kind._run_subcommand)
    loop = importlib.import_module(f"{package}.loops.training_epoch_loop")._TrainingEpochLoop
    assert callable(loop._should_check_val_fx)
    assert callable(loop._should_check_val_epoch)


def test_a_strategy_of_the_recipe_wins_over_the_one_in_the_file(trials: Trials, tmp_path: Path) -> None:
    # Not installed: a trial that took it could not train.
    config = {**STOCK, "trainer": {**STOCK["trainer"], "strategy": "deepspeed"}}
    ran = train(trials, tmp_path, config, TWO, trainer={"strategy": "ddp_find_unused_parameters_true"})
    assert ran.train_losses == train(trials, tmp_path, STOCK, TWO).train_losses


@pytest.mark.parametrize("schedule", ["cosine", "scheduler"])
def test_another_optimizer_takes_the_place_of_the_one_in_the_config(
    trials: Trials, tmp_path: Path, schedule: str
) -> None:
    path = tmp_path / "config.yaml"
    own = {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.2}}}
    own |= {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.9}}}
    path.write_text(yaml.safe_dump({**STOCK, **own}))
    settings = {
        "class_path": "torch.optim.lr_scheduler.LinearLR",
        "init_args": {"end_factor": 0.1, "start_factor": 1.0},
    }
    spec = make_spec(
        {"config": str(path)},
        batch=16,
        horizon=8,
        lr=0.05,
        schedule=schedule,
        settings=settings if schedule == "scheduler" else None,
    )
    spec = dataclasses.replace(spec, other_optimizer={"name": "lion", "settings": {}})
    ran = trials.one(spec, TWO)
    assert ran.record.status == "completed", (ran.record.reason, ran.record.log_tail)
    assert ran.record.facts["optimizers"] == ["Lion"]
    assert ran.record.facts["group_settings"][0]["weight_decay"] == 0.2
    # LinearLR comes to its end factor in five steps.
    fifth = 0.5 * (1 + math.cos(5 * math.pi / 8)) if schedule == "cosine" else 0.1
    assert ran.lrs[5] == pytest.approx(0.05 * fifth)
