from __future__ import annotations

import pandas as pd
import pytest

from lrscale.errors import LrscaleError
from lrscale.sweep import map_columns


def frame(*names: str, **values: list[str]) -> pd.DataFrame:
    return pd.DataFrame({**{name: [f"{place}.5", "7"] for place, name in enumerate(names)}, **values})


@pytest.mark.parametrize(
    ("lr", "batch", "loss"),
    [
        ("lr", "batch_size", "loss"),
        ("config.lr", "config.batch_size", "summary.val_loss"),
        ("config/learning_rate", "config/global_batch_size", "summary/eval/loss"),
        ("params.lr", "params.batch_size", "metrics.val_loss"),
        ("params_lr", "params_bs", "value"),
        ("Learning Rate", "Batch Size", "Final Loss"),
        ("learning_rate", "bs", "test_loss"),
        ("peak_lr", "B", "final_val_loss"),
    ],
)
def test_names_in_use_are_guessed_and_said(lr: str, batch: str, loss: str) -> None:
    found = map_columns(frame("run", lr, batch, loss))
    assert (found["lr"], found["batch"], found["loss"]) == (lr, batch, loss)
    assert [sentence.split(" (")[0] for sentence in found.guessed] == [
        f"lr: column {lr}",
        f"batch: column {batch}",
        f"loss: column {loss}",
    ]


def test_scale_is_guessed_and_a_small_n_is_not_a_model_size() -> None:
    found = map_columns(frame("lr", "bs", "loss", "N", "D_tokens", "n", "seed", "iterations"))
    assert (found["params"], found["tokens"], found["seed"], found["steps"]) == ("N", "D_tokens", "seed", "iterations")


def test_a_flag_is_not_guessed_against() -> None:
    found = map_columns(frame("lr", "bs", "loss", "val_loss"), {"loss": "val_loss"})
    assert found["loss"] == "val_loss"
    assert not any(sentence.startswith("loss") for sentence in found.guessed)


def test_two_losses_that_differ_are_refused_with_the_flag() -> None:
    with pytest.raises(LrscaleError, match="loss, val_loss could each hold the loss") as caught:
        map_columns(frame("lr", "bs", "loss", "val_loss"))
    assert "--loss val_loss" in str(caught.value.hint)


def test_two_model_sizes_that_differ_are_not_used_and_that_is_said() -> None:
    found = map_columns(frame("lr", "bs", "loss", "N", "n_params"))
    assert "params" not in found
    assert found.guessed[-1] == "params: not used, since the columns N, n_params differ (choose with --params)"


def test_columns_in_proportion_give_the_same_answer_and_the_first_is_taken() -> None:
    table = frame("lr", "loss", batch_seqs=["8", "16"], batch_tokens=["16384", "32768"])
    found = map_columns(table)
    assert found["batch"] == "batch_seqs"
    assert "batch_tokens is 2048 times it in every row" in found.guessed[1]


def test_a_validation_loss_goes_before_a_training_loss() -> None:
    found = map_columns(frame("lr", "bs", "train_loss", "val_loss"))
    assert found["loss"] == "val_loss"
    assert "taken before train_loss" in found.guessed[2]


@pytest.mark.parametrize(("given", "meant"), [("learnin_rate", "learning_rate"), ("Learning-Rate", "learning_rate")])
def test_a_column_that_is_not_there_gets_the_nearest_name(given: str, meant: str) -> None:
    with pytest.raises(LrscaleError, match=f"--lr names the column {given}, which is not there") as caught:
        map_columns(frame("learning_rate", "bs", "loss"), {"lr": given})
    assert meant in str(caught.value.hint)


@pytest.mark.parametrize(
    ("left", "flag"), [(("bs", "loss"), "--lr"), (("lr", "loss"), "--batch"), (("lr", "bs"), "--loss")]
)
def test_a_required_column_that_nothing_looks_like_is_asked_for(left: tuple[str, ...], flag: str) -> None:
    with pytest.raises(LrscaleError, match="no column looks like") as caught:
        map_columns(frame(*left, "other"))
    assert flag in str(caught.value.hint)
