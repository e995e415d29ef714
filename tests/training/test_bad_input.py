"""Misuse raises `TaskError` with what is wrong and what to do, and exit code 2."""

from __future__ import annotations

from typing import Any

import pytest
from lrscale_test_trials import Trials, make_spec, make_task

from lrscale.errors import LrscaleError, TaskError
from lrscale.units import Layout


def refused(trials: Trials, task: dict[str, Any], layout: Layout | None = None, **changed: Any) -> LrscaleError:
    spec = make_spec(task, **changed)
    with pytest.raises(TaskError) as caught:
        trials.one(spec, layout)
    assert caught.value.exit_code == 2
    return caught.value


CASES = [
    ({"model": "trial_modules.Prob"}, "module trial_modules has no Prob", "did you mean Probe?"),
    ({"model": "trial_module.Probe"}, "there is no module trial_module", "task.import_paths"),
    ({"model": "trial_modules.points"}, "not a LightningModule", "derive it from"),
    ({"init": {"learning_rat": 1}}, "takes no learning_rat", "known: "),
    ({"init": {"optimiser": "sgd"}}, "takes no optimiser", "did you mean optimizer?"),
    ({"init": {"lr": "fast"}}, "task.model.init_args.lr must be float, not 'fast'", None),
    ({"model": "trial_modules.Needs"}, "needs width", "set task.model.init_args.width"),
    ({"model": "trial_modules.NoOptimizer"}, "the module has no optimizer", "configure_optimizers"),
    ({"model": "trial_modules.ZeroLR"}, "LR of the first parameter group is 0", "positive LR"),
    ({"data": None}, "has no train_dataloader", "task.data"),
    ({"data": "trial_modules.OtherFlavour"}, "derives from lightning.pytorch", "do not mix"),
    ({"data": "trial_modules.NoBatchSize"}, "batch size of the training data cannot be set", "task.batch_size"),
    ({"data_init": {"size": 5}}, "global batch 8 is larger than the training data: 5 examples", "at most 5"),
    ({"monitor": "val_los"}, "task.monitor val_los was not logged", "did you mean val_loss?"),
    ({"monitor": "f1"}, "task.monitor f1 was not logged", "logged there: val_loss"),
    ({"lr": "module.learning_rate"}, "has no learning_rate", "did you mean"),
    ({"batch_size": "datamodule.bs"}, "Points has no bs", "known"),
]


@pytest.mark.parametrize(("changed", "message", "hint"), CASES, ids=[case[1][:40] for case in CASES])
def test_misuse_is_named_with_a_remedy(trials: Trials, changed: dict[str, Any], message: str, hint: str | None) -> None:
    error = refused(trials, make_task(**changed))
    assert message in error.message
    if hint is not None:
        assert hint in (error.hint or "")


def test_misuse_on_two_ranks_is_told_as_fast(trials: Trials) -> None:
    error = refused(trials, make_task(data_init={"size": 5}), Layout(per_device_batch_size=4, devices=2))
    assert "larger than the training data" in error.message


def test_manual_optimization_with_accumulation_is_refused(trials: Trials) -> None:
    layout = Layout(per_device_batch_size=4, accumulate=2)
    error = refused(trials, make_task("stranger_modules.Adversarial"), layout)
    assert "cannot be accumulated over 2 forwards" in error.message
    assert "max_per_device_batch_size" in error.hint


def test_batch_norm_with_one_example_is_refused(trials: Trials) -> None:
    error = refused(trials, make_task("stranger_modules.Normalised", "stranger_data.Blobs"), batch=1)
    assert "BatchNorm" in error.message
    assert "at least 2 examples" in error.hint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"monitor": "val_los"}, "was not logged in validation"),
        ({"model": "trial_modules.NoOptimizer"}, "the module has no optimizer"),
        (
            {"model": "stranger_modules.Plain", "data": "stranger_data.Decoy", "batch_size": "datamodule.batch_size"},
            "gave batches of the same size",
        ),
        ({"init": {"fail": ["construct", "bug", None, 0]}}, "no such column"),
    ],
)
def test_a_look_at_the_task_finds_misuse_before_any_trial(
    trials: Trials, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        trials.inspect(make_task(**changed))


def test_a_look_at_the_task_finds_the_facts(trials: Trials) -> None:
    facts = trials.inspect(make_task(init={"ratios": [1.0, 0.1], "scheduler": "cosine"}))
    assert facts["optimizers"] == ["SGD"]
    assert facts["group_lrs"] == pytest.approx([0.01, 0.001])
    assert facts["parameters"] == 6
    assert facts["training_examples"] == 64
    assert facts["own_schedulers"] == ["CosineAnnealingLR"]
    assert facts["monitor"] == "val_loss"
    assert facts["has_validation"] is True
    assert facts["flavour"] == "lightning.pytorch"
