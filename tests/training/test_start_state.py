"""A trial may begin from a checkpoint, and may lead one optimizer of several."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lrscale_test_trials import Trials, make_spec, make_task, read_lines
from trial_modules import Points, Probe, points

from lrscale.errors import TaskError
from lrscale.store import StartState, TrialSpec
from lrscale.store.files import content_hash
from lrscale.units import Layout

TWO = Layout(per_device_batch_size=4, devices=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for 30 steps with Lightning alone, and keep the state."""
    folder = tmp_path_factory.mktemp("checkpoint")
    trainer = pl.Trainer(
        max_steps=30,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        limit_val_batches=0,
    )
    with warnings.catch_warnings():
        # Lightning remarks on every habit that a three-line script has.
        warnings.simplefilter("ignore")
        trainer.fit(Probe(lr=0.05, optimizer="adamw"), train_dataloaders=Points(batch_size=8).train_dataloader())
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def begun_from(path: Path, record: Path, **changed: Any) -> TrialSpec:
    spec = make_spec(make_task(init={"optimizer": "adamw", "record": str(record)}), **changed)
    return TrialSpec.from_dict({**spec.to_dict(), "start": {"path": str(path), "sha256": content_hash(path)}})


@pytest.mark.parametrize("layout", [None, TWO], ids=["one rank", "two ranks"])
def test_a_trial_goes_on_from_the_weights_and_moments_of_its_checkpoint(
    trials: Trials, checkpoint: Path, tmp_path: Path, layout: Layout | None
) -> None:
    ran = trials.one(begun_from(checkpoint, tmp_path, lr=0.02, horizon=6), layout)
    assert ran.record.status == "completed", ran.record.reason
    assert ran.record.facts["start"]["step"] == 30
    assert ran.record.facts["start"]["optimizer_states"] == 1
    # The same steps by hand: the checkpoint's weights and moments, the trial's LR and its batches.
    state = torch.load(checkpoint, weights_only=False)
    weight = state["state_dict"]["parts.0"].clone().requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=0.02)
    own = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["optimizer_states"][0]["state"], "param_groups": own})
    inputs, targets, _ = points()
    ranks = 1 if layout is None else 2
    batches = zip(*(read_lines(tmp_path / f"train-{rank}.jsonl") for rank in range(ranks)), strict=True)
    expected = []
    for shares in batches:
        ids = [number for share in shares for number in share["ids"]]
        loss = ((inputs[ids] @ weight - targets[ids]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert ran.train_losses == pytest.approx(expected, rel=1e-5)
    assert ran.train_losses[0] < 0.5  # a fresh module starts at about 5
    assert ran.lrs == pytest.approx([0.02] * 6)


def test_weights_without_optimizer_state_start_with_fresh_moments(
    trials: Trials, checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=False)
    del state["optimizer_states"]
    torch.save(state, tmp_path / "weights.ckpt")
    ran = trials.one(begun_from(tmp_path / "weights.ckpt", tmp_path, lr=1e-6, horizon=3))
    assert ran.record.facts["start"]["optimizer_states"] == 0
    assert ran.train_losses[0] < 0.5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "has changed since"),
    ],
    ids=["gone", "another file"],
)
def test_a_checkpoint_that_is_not_what_was_planned_with_is_refused(
    trials: Trials, checkpoint: Path, tmp_path: Path, spoil: Any, message: str
) -> None:
    path = tmp_path / "copy.ckpt"
    path.write_bytes(checkpoint.read_bytes())
    spec = begun_from(path, tmp_path)
    spoil(path)
    with pytest.raises(TaskError, match=message):
        trials.one(spec)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": 1}, "no Lightning checkpoint"),
        ({"state_dict": {"another": torch.zeros(2)}}, "does not fit Probe"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_with_the_reason(
    trials: Trials, tmp_path: Path, content: Any, message: str
) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(TaskError, match=message):
        trials.one(begun_from(tmp_path / "other.ckpt", tmp_path))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("layout", [None, TWO], ids=["one rank", "two ranks"])
def test_one_optimizer_is_led_with_its_ratios_and_the_other_keeps_its_lr(
    trials: Trials, tmp_path: Path, number: int, layout: Layout | None
) -> None:
    # Both optimizers take their LR from the argument that the recipe names, which must not move the other one.
    task = make_task(
        "trial_modules.TwoInTurn",
        init={"record": str(tmp_path), "lr": 0.01},
        lr="model.init_args.lr",
        trainer={"strategy": "ddp_find_unused_parameters_true"},
    )
    spec = make_spec(task, lr=0.1, horizon=8, schedule="ramp", settings={"start_factor": 1e-2}, every=None)
    ran = trials.one(TrialSpec.from_dict({**spec.to_dict(), "optimizer": number}), layout)
    assert ran.record.status == "completed", ran.record.reason
    seen = read_lines(tmp_path / "lrs-0.jsonl")
    assert [lrs[1 - number] for lrs in seen] == [pytest.approx([0.01, 0.001])] * 8
    led = [lrs[number] for lrs in seen]
    assert [lr for lr, _ in led] == pytest.approx([0.1 * 0.01 ** (1 - step / 7) for step in range(8)])
    assert [other / first for first, other in led] == pytest.approx([0.1] * 8)
    assert ran.lrs == pytest.approx([lr for lr, _ in led])


def test_an_optimizer_that_is_not_there_is_refused_with_the_count(trials: Trials, tmp_path: Path) -> None:
    spec = make_spec(make_task("trial_modules.TwoInTurn", init={"record": str(tmp_path)}), every=None)
    with pytest.raises(TaskError, match="2 optimizers, so there is none of number 2"):
        trials.one(TrialSpec.from_dict({**spec.to_dict(), "optimizer": 2}))


def test_the_identity_of_a_trial_has_its_optimizer_and_the_content_of_its_start() -> None:
    spec = make_spec()
    first = TrialSpec.from_dict({**spec.to_dict(), "optimizer": 0})
    assert first.trial_id != spec.trial_id
    assert first.optimizer == 0
    begun = TrialSpec.from_dict({**spec.to_dict(), "start": {"path": "a", "sha256": "0"}})
    assert begun.start == StartState(path="a", sha256="0")
    assert begun.trial_id not in (spec.trial_id, first.trial_id)
