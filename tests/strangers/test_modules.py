"""Modules and data as strangers write them run unmodified, one test for each line of what is out there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import TESTS, Ran, Trials, make_spec, make_task

from lrscale.errors import TaskError
from lrscale.schedules import build_schedule
from lrscale.units import Layout

TWO = Layout(per_device_batch_size=8, devices=2)
TWO_FORWARDS = Layout(per_device_batch_size=8, accumulate=2)


def task(model: str = "Plain", data: str | None = "Blobs", **others: Any) -> dict[str, Any]:
    return make_task(f"stranger_modules.{model}", data and f"stranger_data.{data}", **others)


def train(trials: Trials, what: dict[str, Any], layout: Layout | None = None, **changed: Any) -> Ran:
    settings: dict[str, Any] = {"batch": 16, "horizon": 10, "lr": 0.05, **changed}
    ran = trials.one(make_spec(what, **settings), layout)
    assert ran.record.status == "completed", (ran.record.status, ran.record.reason, ran.record.log_tail)
    assert ran.record.steps == settings["horizon"]
    assert ran.record.final_loss is not None
    assert np.isfinite(ran.record.final_loss)
    return ran


@pytest.mark.parametrize(
    ("model", "data", "flavour"),
    [("Plain", "Blobs", "lightning.pytorch"), ("OldSpelling", "OldBlobs", "pytorch_lightning")],
)
@pytest.mark.parametrize("layout", [None, TWO])
def test_both_import_spellings_train(
    trials: Trials, model: str, data: str, flavour: str, layout: Layout | None
) -> None:
    ran = train(trials, task(model, data), layout)
    assert ran.record.facts["flavour"] == flavour
    assert ran.record.warnings == ()
    assert len(ran.train_losses) == 10
    assert ran.record.final_loss < ran.record.initial_loss


def test_both_import_spellings_come_to_the_same_numbers(trials: Trials) -> None:
    new, old = train(trials, task()), train(trials, task("OldSpelling", "OldBlobs"))
    assert new.train_losses == old.train_losses
    assert new.record.final_loss == old.record.final_loss


@pytest.mark.parametrize(
    ("name", "warns"),
    [("factory_with_module", None), ("factory_with_loaders", None), ("factory_with_train_loader", "held back")],
)
def test_a_factory_may_return_a_data_module_or_loaders(trials: Trials, name: str, warns: str | None) -> None:
    what = {"factory": f"stranger_modules.{name}", "trainer": {}}
    ran = train(trials, what, TWO)
    one = train(trials, what)
    assert ran.train_losses == pytest.approx(one.train_losses, rel=1e-5)
    assert ran.record.final_loss == pytest.approx(one.record.final_loss, rel=1e-5)
    assert ran.record.facts["reference_lr"] == 0.05
    assert ran.warned("held back") is (warns is not None)


def test_further_arguments_of_a_factory_are_set_by_the_task(trials: Trials) -> None:
    what = {"factory": "stranger_modules.factory_with_width", "trainer": {}}
    wide = train(trials, {**what, "overrides": {"width": 12}})
    assert wide.record.facts["parameters"] == 4 * 12 + 12 + 12 * 3 + 3
    with pytest.raises(TaskError, match="takes no depth; add it to the function's arguments"):
        train(trials, {**what, "overrides": {"depth": 12}})


@pytest.mark.parametrize(
    ("name", "message"),
    [("factory_without_seed", "takes no seed"), ("factory_of_nonsense", "returned a SimpleNamespace first")],
)
def test_a_factory_of_another_shape_is_refused(trials: Trials, name: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        train(trials, {"factory": f"stranger_modules.{name}", "trainer": {}})


@pytest.mark.parametrize("layout", [None, TWO])
def test_manual_optimization_with_two_optimizers_is_counted_in_batches(trials: Trials, layout: Layout | None) -> None:
    # As in any DDP training of two networks in turn.
    what = task("Adversarial", trainer={"strategy": "ddp_find_unused_parameters_true"})
    ran = train(trials, what, layout, every=5, schedule="cosine")
    assert ran.record.facts["optimizers"] == ["Adam", "Adam"]
    assert ran.record.facts["automatic_optimization"] is False
    assert ran.record.facts["group_lrs"] == pytest.approx([0.01, 4e-3])
    assert ran.validation_steps == [5, 10]
    assert ran.record.examples == 160
    schedule = build_schedule("cosine")
    assert ran.lrs == pytest.approx([0.05 * schedule.factor(step, 10) for step in range(10)])
    assert len(ran.train_losses) == 10  # from what it logs: it returns nothing
    assert ran.warned("ExponentialLR is replaced")


def test_a_module_may_ask_its_own_scheduler_while_it_is_replaced(trials: Trials) -> None:
    ran = train(trials, task("LogsItsLR"))
    assert set(ran.lrs) == {0.05}
    assert ran.warned("StepLR is replaced")


def test_parameter_groups_keep_their_ratio(trials: Trials) -> None:
    ran = train(trials, task("TwoRates"))
    assert ran.record.facts["group_lrs"] == pytest.approx([0.005, 0.05])
    assert ran.record.facts["reference_lr"] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("model", "init", "path"),
    [
        ("Plain", {}, "hparams.lr"),
        ("Plain", {"lr": "2e-2"}, "model.init_args.lr"),
        ("NestedLR", {}, "optimizer_kwargs.lr"),
        ("NestedLR", {"optimizer_kwargs": {"lr": 0.3}}, "model.init_args.optimizer_kwargs.lr"),
        ("PartialLR", {}, "make.keywords.lr"),
        ("PartialLR", {}, "module.make.keywords.lr"),
    ],
)
def test_an_lr_is_set_where_it_lives(trials: Trials, model: str, init: dict[str, Any], path: str) -> None:
    ran = train(trials, task(model, init=init, lr=path), lr=0.03)
    assert ran.record.facts["reference_lr"] == pytest.approx(0.03)
    assert ran.record.facts["lr_home"] == f"task.lr {path}"
    assert ran.record.warnings == ()


def test_tied_lrs_move_together(trials: Trials) -> None:
    paths = ["max_lr", "initial_lr", "final_lr"]
    ran = train(trials, task("TiedLR", lr=paths), lr=0.02, schedule="module", horizon=12)
    # One epoch has 6 batches, so two have 12; torch's one-cycle of the same three numbers.
    schedule = build_schedule("one_cycle", {"start_divisor": 10.0, "final_divisor": 10.0})
    assert ran.lrs == pytest.approx([0.02 * schedule.factor(step, 12) for step in range(12)], rel=1e-6)


def test_batch_norm_trains_and_its_dependence_on_the_layout_is_said(trials: Trials) -> None:
    assert train(trials, task("Normalised"), TWO).warned("BatchNorm1d takes its statistics over the 8 examples")
    assert train(trials, task("Normalised")).record.warnings == ()


def test_a_last_batch_of_one_example_is_left_out(trials: Trials) -> None:
    ran = train(trials, task("Normalised", "LastBatchOfOne"), horizon=9)
    assert ran.record.facts["training_examples"] == 65


def test_negative_log_likelihoods_are_compared_like_any_loss(trials: Trials) -> None:
    ran = train(trials, task("LogLikelihood"), horizon=150, every=50)
    assert ran.record.final_loss < 0 < ran.record.initial_loss
    assert ran.record.best_loss <= ran.record.final_loss


def test_a_value_error_at_a_large_lr_is_a_diverged_trial(trials: Trials) -> None:
    ran = trials.one(make_spec(task("Unbounded"), batch=16, horizon=60, schedule="ramp", lr=10.0, every=None))
    assert ran.record.status == "diverged"
    assert len(ran.train_losses) == ran.record.steps
    assert ran.lrs[-1] < 10


def test_a_stream_trains_past_its_end_and_its_order_is_said_to_be_its_own(trials: Trials) -> None:
    for layout, devices in ((None, 1), (TWO, 2)):
        ran = train(trials, task("Plain", "Streamed"), layout, every=5)
        assert ran.validation_steps == [5, 10]
        assert ran.record.facts["data_source"] == "stream"
        assert ran.warned("the training data are a stream")
        assert not ran.warned("saw the same first batch"), devices


def test_identical_batches_on_all_ranks_are_warned_of_with_the_consequence(trials: Trials) -> None:
    ran = train(trials, task("Plain", "Streamed", data_init={"by_rank": False}), TWO)
    assert ran.warned("2 of 2 ranks saw the same first batch")
    assert ran.warned("the global batch is 8, not 16")
    assert ran.record.facts["identical_batches"] is True


def test_a_stream_that_ends_within_a_step_steps_on_what_there_is(trials: Trials) -> None:
    # 50 examples are 6 whole batches of 8: three steps of two forwards.
    ran = train(trials, task("Plain", "Streamed"), TWO_FORWARDS, horizon=7)
    assert len(ran.train_losses) == 7


def test_a_loader_of_ones_own_without_a_length_runs(trials: Trials) -> None:
    for layout in (None, TWO_FORWARDS):
        ran = train(trials, task("Plain", "WithOwnLoader"), layout, horizon=15, every=5)
        assert ran.record.facts["data_source"] == "custom"
        assert ran.warned("controls neither order nor sharding")
        assert ran.validation_steps == [5, 10, 15]
    ran = train(trials, task("Plain", "WithOwnLoader"), TWO)
    assert ran.warned("the global batch is 8, not 16")


@pytest.mark.parametrize("data", ["Cached", "HardCoded", "Weighted", "Batched"])
def test_batches_are_formed_anew_wherever_the_examples_are_known(trials: Trials, data: str) -> None:
    one, two = train(trials, task("Plain", data)), train(trials, task("Plain", data), TWO)
    assert one.record.facts["data_source"] == "examples"
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-5)
    assert two.record.final_loss == pytest.approx(one.record.final_loss, rel=1e-5)
    assert one.record.warnings == two.record.warnings == ()


def test_a_set_that_its_author_divides_among_ranks_is_divided_once(trials: Trials) -> None:
    one, two = train(trials, task("Plain", "SplitByHand")), train(trials, task("Plain", "SplitByHand"), TWO)
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-5)
    assert two.record.final_loss == pytest.approx(one.record.final_loss, rel=1e-5)


def test_a_batch_sampler_is_kept_and_dealt_to_the_ranks(trials: Trials) -> None:
    # Its batches are of the per-device size, so two ranks take two of them a step, as accumulation does.
    two = train(trials, task("Plain", "Bucketed"), TWO)
    forwards = train(trials, task("Plain", "Bucketed"), TWO_FORWARDS)
    assert two.record.facts["data_source"] == "batches"
    assert two.train_losses == pytest.approx(forwards.train_losses, rel=1e-5)
    assert not two.warned("same first batch")


def test_a_batch_sampler_draws_the_same_batches_for_every_lr(trials: Trials) -> None:
    low, high = (train(trials, task("Plain", "Bucketed"), TWO, lr=lr) for lr in (1e-9, 2e-9))
    assert low.train_losses == pytest.approx(high.train_losses, rel=1e-6)
    assert len(set(np.round(low.train_losses, 6))) == 10


@pytest.mark.parametrize("data", ["InLists", "InDicts"])
def test_several_loaders_keep_the_ratio_of_their_sizes(trials: Trials, data: str) -> None:
    one, two = train(trials, task("SeveralLoaders", data)), train(trials, task("SeveralLoaders", data), TWO)
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-5)


def test_the_first_of_several_validation_loaders_is_gone_by(trials: Trials) -> None:
    assert train(trials, task("SeveralLoaders", "InLists")).record.monitor == "val_loss/dataloader_idx_0"
    asked = train(trials, task("SeveralLoaders", "InLists", monitor="val_loss"))
    assert asked.record.monitor == "val_loss/dataloader_idx_0"


def test_a_decoy_of_a_batch_size_is_found_before_any_trial(trials: Trials) -> None:
    with pytest.raises(TaskError, match="not the batch size"):
        trials.inspect(task("Plain", "Decoy"))
    facts = trials.inspect(task("Plain", "Decoy", batch_size="data.init_args.windows"))
    assert facts["batch_size_home"] == "data.init_args.windows"
    ran = train(trials, task("Plain", "Decoy", batch_size="datamodule.windows"))
    assert ran.record.facts["own_batch_size"] == 8


def test_a_batch_size_is_set_wherever_it_lives(trials: Trials) -> None:
    with pytest.raises(TaskError, match="batch size of the training data cannot be set"):
        train(trials, task("Plain", "InKwargs"))
    ran = train(trials, task("Plain", "InKwargs", batch_size="datamodule.splits.0.size"))
    assert ran.record.facts["own_batch_size"] == 24
    plain = train(trials, task("Plain", "WithOwnLoader"))
    assert ran.train_losses == plain.train_losses


@pytest.mark.parametrize(
    ("model", "monitor"),
    [("ReturnsOnly", "returned loss"), ("Silent", "train_loss"), ("OtherName", "ptl/val_loss")],
)
def test_a_loss_is_found_whatever_is_logged(trials: Trials, model: str, monitor: str) -> None:
    ran = train(trials, task(model))
    assert ran.record.monitor == monitor
    assert len(ran.train_losses) == 10


def test_a_monitor_that_is_not_logged_is_refused_with_the_names_that_are(trials: Trials) -> None:
    with pytest.raises(TaskError) as caught:
        train(trials, task("OtherName", monitor="val_loss"))
    for name in ("ptl/val_loss", "ptl/val_accuracy", "regulariser_loss"):
        assert name in caught.value.hint


@pytest.mark.parametrize("model", ["CannotBeCopied", "CannotBePickled", "OnceOnly", "KeepsAverage"])
@pytest.mark.parametrize("layout", [None, TWO])
def test_modules_that_cannot_be_copied_pickled_or_built_twice_train(
    trials: Trials, model: str, layout: Layout | None
) -> None:
    ran = train(trials, task(model), layout)
    assert ran.record.final_loss < ran.record.initial_loss


def test_a_module_that_can_be_built_once_can_be_looked_at(trials: Trials) -> None:
    assert trials.inspect(task("OnceOnly"))["optimizers"] == ["Adam"]


def test_keyword_arguments_that_are_forwarded_arrive(trials: Trials) -> None:
    ran = train(trials, task("Doubles", init={"lr": 0.3, "width": 5}))
    assert ran.record.facts["parameters"] == 4 * 5 + 5 + 5 * 3 + 3


def test_callbacks_of_the_modules_own_run_and_those_that_would_end_it_do_not(trials: Trials) -> None:
    ran = train(trials, task("WithCallbacks"))
    assert ran.warned("callback EarlyStopping does not run in trials")
    assert ran.warned("callback ModelCheckpoint does not run in trials")


def test_data_may_live_in_the_module(trials: Trials) -> None:
    one, two = train(trials, task("HoldsItsData", None)), train(trials, task("HoldsItsData", None), TWO)
    assert one.record.facts["batch_size_home"] == "model.init_args.batch_size"
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-5)


def test_schedules_planned_by_epochs_find_a_trainer_with_an_end(trials: Trials) -> None:
    ran = train(trials, task("EpochSchedule"), schedule="module", horizon=18)
    # Three epochs of 6 batches; the cosine steps at the end of each.
    assert ran.lrs[0] == ran.lrs[5] > ran.lrs[6] == ran.lrs[11] > ran.lrs[12]
    assert ran.lrs[6] == pytest.approx(0.05 * 0.75)


def test_the_option_that_ddp_asks_for_is_named_and_helps(trials: Trials) -> None:
    ran = trials.one(make_spec(task("UnusedBranch"), batch=16, horizon=5), TWO)
    assert ran.record.status == "crashed"
    assert "set task.trainer.strategy: ddp_find_unused_parameters_true" in ran.record.reason
    helped = task("UnusedBranch", trainer={"strategy": "ddp_find_unused_parameters_true"})
    assert train(trials, helped, TWO).record.steps == 10
    assert train(trials, helped).record.steps == 10


def test_trainer_settings_that_a_trial_decides_are_not_kept_and_that_is_said(trials: Trials) -> None:
    settings = {
        "max_epochs": 3,
        "accumulate_grad_batches": 4,
        "limit_train_batches": 0.1,
        "devices": 8,
        "strategy": "ddp_spawn",
        "enable_progress_bar": True,
        "deterministic": True,
    }
    ran = train(trials, task(trainer=settings))
    assert ran.warned("trainer.accumulate_grad_batches is not kept")
    assert ran.warned("trainer.limit_train_batches is not kept")
    assert ran.train_losses == train(trials, task()).train_losses


def test_loading_in_worker_processes_changes_nothing(trials: Trials) -> None:
    assert train(trials, task("Plain", "Workers")).train_losses == train(trials, task()).train_losses


def test_nothing_is_written_outside_the_study_folder(trials: Trials) -> None:
    ran = train(trials, task("UsesItsLogger"), TWO, horizon=14)
    assert not list(trials.temporary.iterdir())
    strays = ("lightning_logs", "checkpoints", "figure.txt", "scratch-*", ".lr_find*", "lrscale-*")
    for folder in (Path.cwd(), TESTS, TESTS / "strangers"):
        assert not [path for pattern in strays for path in folder.glob(pattern)]
    assert {path.name for path in ran.folder.iterdir()} == {
        "spec.json",
        "record.json",
        "trajectory.parquet",
        "job.json",
        "outcome-0.json",
        "outcome-1.json",
        "rank-0.log",
        "rank-1.log",
    }
    assert (ran.folder / "rank-0.log").read_text() == ""
