"""Optimizers that take the place of the module's own: what they do, and that trials train with them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lrscale_test_trials import Ran, Trials, make_spec, make_task, read_lines
from torch import nn
from trial_modules import points

from lrscale.errors import TaskError
from lrscale.recipe.optimizers import OPTIMIZERS
from lrscale.training.optimizers import build_optimizer
from lrscale.training.optimizers.build import MAKERS
from lrscale.training.optimizers.lion import Lion
from lrscale.training.optimizers.muon import MuonWithAdamW, hidden_matrices
from lrscale.training.optimizers.replace import _only_optimizer
from lrscale.units import Layout

TWO = Layout(per_device_batch_size=4, devices=2)
NEEDS = {"schedule_free_sgd": "schedulefree", "schedule_free_adamw": "schedulefree"}


def choice(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "settings": settings}


def run(
    trials: Trials,
    other: dict[str, Any],
    *,
    init: dict[str, Any] | None = None,
    layout: Layout | None = None,
    **own: Any,
) -> Ran:
    spec = dataclasses.replace(make_spec(make_task(init=init or {}), **own), other_optimizer=other)
    ran = trials.one(spec, layout)
    assert ran.record.status == "completed", ran.record.reason
    return ran


def built(name: str, module: nn.Module, groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    return build_optimizer(choice(name, **settings), groups, module, [])


def test_recipes_and_trials_know_the_same_names() -> None:
    assert set(OPTIMIZERS) == {*MAKERS, "muon"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recipes_defaults_are_those_that_are_trained_with(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = built(name, net, [{"params": list(net.parameters()), "lr": 0.1, "weight_decay": 0.3}])
    for setting, default in OPTIMIZERS[name].items():
        found = optimizer.param_groups[0][setting]
        assert (list(found) if isinstance(found, tuple) else found) == (0.3 if setting == "weight_decay" else default)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_keep_the_ratios_of_their_lrs_and_the_spared_ones_stay_spared(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2))
    groups = [
        {"params": [net[0].weight], "lr": 0.5, "initial_lr": 0.1, "weight_decay": 0.3},
        {"params": list(net[1].parameters()), "lr": 0.05, "initial_lr": 0.01, "weight_decay": 0.0},
    ]
    for given, expected in (({}, 0.3), ({"weight_decay": 0.02}, 0.02)):
        made = built(name, net, groups, **given)
        assert {group["lr"] for group in made.param_groups} == {0.1, 0.01}
        assert [group["weight_decay"] for group in made.param_groups] == [expected, 0.0]
        assert {id(one) for group in made.param_groups for one in group["params"]} == {
            id(one) for one in net.parameters()
        }


def test_lion_is_the_published_algorithm() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(3, generator=generator).requires_grad_(),
        torch.randn(2, 2, generator=generator).requires_grad_(),
    ]
    expected = [weight.detach().clone() for weight in weights]
    momenta = [torch.zeros_like(weight) for weight in expected]
    optimizer = Lion(weights, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    for _ in range(5):
        for place, weight in enumerate(weights):
            weight.grad = gradient = torch.randn(weight.shape, generator=generator)
            update = torch.sign(0.8 * momenta[place] + 0.2 * gradient)
            expected[place] = expected[place] - 0.01 * (update + 0.1 * expected[place])
            momenta[place] = 0.95 * momenta[place] + 0.05 * gradient
        optimizer.step()
    for weight, theirs in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), theirs)


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    net = nn.ModuleDict(
        {
            "embed": nn.Embedding(5, 4),
            "a": nn.Linear(4, 4),
            "norm": nn.LayerNorm(4),
            "b": nn.Linear(4, 4),
            "head": nn.Linear(4, 5),
        }
    )
    assert hidden_matrices(net) == {id(net["a"].weight), id(net["b"].weight)}
    net["head"].weight = net["embed"].weight
    assert hidden_matrices(net) == {id(net["a"].weight), id(net["b"].weight)}
    assert hidden_matrices(nn.Linear(3, 1)) != set()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_beside_adamw_is_both_alone_and_survives_its_own_state() -> None:
    def net() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))

    def step(model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
        model(torch.ones(3, 4)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    ours, theirs = net(), net()
    optimizer = built("muon", ours, [{"params": list(ours.parameters()), "lr": 0.01, "weight_decay": 0.1}])
    hidden = hidden_matrices(theirs)
    muon = torch.optim.Muon(
        [one for one in theirs.parameters() if id(one) in hidden],
        lr=0.01,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW([one for one in theirs.parameters() if id(one) not in hidden], lr=0.01, weight_decay=0.1)
    for turn in range(6):
        if turn == 3:
            again = net()
            again.load_state_dict(ours.state_dict())
            fresh = built("muon", again, [{"params": list(again.parameters()), "lr": 0.5, "weight_decay": 0.1}])
            fresh.load_state_dict(optimizer.state_dict())
            ours, optimizer = again, fresh
        for group in (*optimizer.param_groups, *muon.param_groups, *adamw.param_groups):
            group["lr"] = 0.01 / (turn + 1)
        step(ours, optimizer)
        step(theirs, muon, adamw)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other)
    assert isinstance(optimizer, MuonWithAdamW)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_ranks_train_with_it_as_one_does(trials: Trials, tmp_path: Path, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    init = {"ratios": [1.0, 0.1], "record": str(tmp_path)}
    two = run(trials, choice(name), init=init, layout=TWO, lr=0.02, schedule="cosine", every=4)
    one = run(trials, choice(name), init={**init, "record": None}, lr=0.02, schedule="cosine", every=4)
    assert two.train_losses == pytest.approx(one.train_losses, rel=2e-4)
    assert two.record.final_loss == pytest.approx(one.record.final_loss, rel=2e-4)
    validations = two.trajectory.points("val_loss")[1]
    assert validations[-1] < validations[0]
    for step in read_lines(tmp_path / "step-0.jsonl"):
        assert step["lrs"][1] == pytest.approx(0.1 * step["lrs"][0])


def test_an_optimizer_by_class_path_is_trained_with(trials: Trials) -> None:
    node = {"class_path": "torch.optim.NAdam", "init_args": {"momentum_decay": 0.01}}
    ran = run(trials, {"name": "class", "settings": node}, lr=0.02)
    assert ran.record.facts["optimizers"] == ["NAdam"]
    own = run(trials, {}, lr=0.02)
    assert own.record.facts["optimizers"] == ["SGD"]
    assert own.spec.trial_id != ran.spec.trial_id


def test_a_schedule_free_trial_validates_its_average_and_trains_on(trials: Trials) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    ran = run(trials, choice("schedule_free_sgd"), batch=64, lr=0.05, horizon=12, every=4)
    weight = torch.zeros(3, requires_grad=True)
    optimizer = schedulefree.SGDScheduleFree([weight], lr=0.05, momentum=0.9)
    inputs, targets, _ = points()
    held, wanted, _ = points(seed=8, size=21)
    expected, gap = [], []
    for step in range(12):
        optimizer.train()
        ((inputs @ weight - targets) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 4 == 3:
            training = float(((held @ weight - wanted) ** 2).mean().detach())
            optimizer.eval()
            expected.append(float(((held @ weight - wanted) ** 2).mean().detach()))
            gap.append(abs(training - expected[-1]))
    assert list(ran.trajectory.points("val_loss")[1]) == pytest.approx(expected, rel=1e-5)
    assert min(gap) > 1e-3


def test_what_to_install_is_said_where_schedulefree_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(TaskError, match="schedulefree is not installed") as caught:
        built("schedule_free_adamw", nn.Linear(2, 2), [{"params": [torch.zeros(2, requires_grad=True)], "lr": 0.1}])
    assert "lrscale[schedule-free]" in (caught.value.hint or "")


@pytest.mark.parametrize("shape", ["one", "mapping", "pair", "list", "mappings"])
def test_the_one_optimizer_is_found_in_all_that_lightning_takes(shape: str) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    node = {"optimizer": optimizer, "lr_scheduler": None}
    made: Any = {
        "one": optimizer,
        "mapping": node,
        "pair": ([optimizer], []),
        "list": [optimizer],
        "mappings": [node],
    }[shape]
    assert _only_optimizer(made) is optimizer


@pytest.mark.parametrize("count", [0, 2])
def test_a_module_with_another_number_of_optimizers_is_refused(count: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(TaskError, match=f"the module has {count} optimizers"):
        _only_optimizer([optimizer] * count or None)
