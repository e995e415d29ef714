"""One reading of the gradient for all instruments, and hooks that Lightning does not call while they rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradient_truth as truth
import pytest
import torch
from torch.utils.data import DataLoader

import lrscale
from lrscale.training.flavour import Flavour
from lrscale.training.instruments import make_instruments
from lrscale.training.instruments.gradient_norms import GradientNorms


def leaf(*values: float, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(len(values), dtype=dtype))
    made.grad = torch.tensor(values, dtype=dtype)
    return made


def on_rank(rank: int, world_size: int) -> Any:
    return SimpleNamespace(global_rank=rank, world_size=world_size)


def norms(reader: GradientNorms, trainer: Any, optimizer: Any, step: int = 0) -> dict[int, float]:
    found = reader.of(trainer, optimizer, step, object())
    assert found is not None
    return dict(zip(found.places, map(float, found.plain), strict=True))


def test_the_second_instrument_gets_the_reading_of_the_first_and_the_next_step_a_new_one() -> None:
    one, reader, first, second = leaf(3, 4), GradientNorms(), object(), object()
    optimizer, trainer = torch.optim.SGD([one], lr=0.1), on_rank(0, 1)
    assert reader.of(trainer, optimizer, 0, first) is reader.of(trainer, optimizer, 0, second)
    one.grad = torch.tensor([6.0, 8.0])
    # A closure that is called again within the step has another gradient, and so has the next step for anyone.
    for step, asker in ((0, second), (1, first)):
        found = reader.of(trainer, optimizer, step, asker)
        assert found is not None and [float(one) for one in found.plain] == [10.0]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_the_shares_of_all_ranks_are_the_whole_gradient_once(world_size: int) -> None:
    leaves = [leaf(3, 4), leaf(1), leaf(2, 2, 1), leaf(6, 8, dtype=torch.float64)]
    leaves.append(torch.nn.Parameter(torch.zeros(4)))
    optimizer = torch.optim.SGD(leaves, lr=0.1)
    found: dict[int, float] = {}
    for rank in range(world_size):
        own = norms(GradientNorms(), on_rank(rank, world_size), optimizer)
        assert not own.keys() & found.keys()
        found |= own
    assert found == {0: 5.0, 1: 1.0, 2: 3.0, 3: 10.0}
    for one in leaves:
        one.grad = None
    assert GradientNorms().of(on_rank(0, world_size), optimizer, 0, object()) is None


def test_a_parameter_group_that_is_added_is_read_from_then_on() -> None:
    reader, optimizer = GradientNorms(), torch.optim.SGD([leaf(3, 4)], lr=0.1)
    assert norms(reader, on_rank(0, 1), optimizer) == {0: 5.0}
    optimizer.add_param_group({"params": [leaf(1)]})
    assert norms(reader, on_rank(0, 1), optimizer, 1) == {0: 5.0, 1: 1.0}


def test_sparse_gradients_and_those_that_carry_a_graph_are_read() -> None:
    one = torch.nn.Parameter(torch.zeros(4, 1))
    one.grad = torch.sparse_coo_tensor([[1, 1]], [[1.0], [2.0]], (4, 1), check_invariants=True)
    reader, optimizer = GradientNorms(), torch.optim.SGD([one], lr=0.1)
    assert norms(reader, on_rank(0, 1), optimizer) == {0: 3.0}
    one.grad = 2 * torch.ones(4, 1, requires_grad=True)
    found = reader.of(on_rank(0, 1), optimizer, 1, object())
    assert found is not None and [float(one) for one in found.plain] == [4.0] and not found.plain[0].requires_grad


@pytest.mark.filterwarnings("ignore")
def test_one_trial_reads_the_gradient_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_instruments({"noise_scale": {"budget": None}, "stability": {}}, Flavour("pytorch_lightning"))
    assert made["noise_scale"].norms is made["stability"].norms
    readings, read = [], GradientNorms._read
    monkeypatch.setattr(GradientNorms, "_read", lambda *args: readings.append(1) or read(*args))
    run = truth.trainer("pytorch_lightning", None, accumulate_grad_batches=2, callbacks=list(made.values()))
    run.fit(truth.make(), DataLoader(truth.examples(48), batch_size=4))
    sums = made["noise_scale"].sums
    assert len(readings) == len(sums) == 6
    assert list(made["stability"]._squares.values()) == pytest.approx(sums.square_mean.tolist(), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_hooks_rest_where_a_step_is_not_measured() -> None:
    instrument, called = lrscale.GradientNoiseScale(budget=None), []
    hooks = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end")

    class Watched(lrscale.GradientNoiseScale):
        pass

    for hook in hooks:
        original = getattr(lrscale.GradientNoiseScale, hook)
        setattr(Watched, hook, lambda self, *args, _own=original, _name=hook: (called.append(_name), _own(self, *args)))
    for accumulate, expected in ((1, {"on_train_batch_end": 1}), (2, dict(zip(hooks, (8, 8, 4, 0), strict=True)))):
        called.clear()
        instrument = Watched(budget=None)
        run = truth.trainer("pytorch_lightning", instrument, accumulate_grad_batches=accumulate)
        run.fit(truth.make(), DataLoader(truth.examples(32), batch_size=4))
        assert {hook: called.count(hook) for hook in hooks} == {hook: expected.get(hook, 0) for hook in hooks}
        assert instrument.sums is not None


@pytest.mark.filterwarnings("ignore")
def test_frozen_parameters_that_the_optimizer_holds_do_not_move_the_places_of_the_others() -> None:
    measured = []
    for frozen in (False, True):
        module, instrument = truth.make(), lrscale.GradientNoiseScale(budget=None)
        if frozen:
            extra, configure = torch.nn.Parameter(torch.zeros(3), requires_grad=False), module.configure_optimizers

            def with_frozen(extra: Any = extra, configure: Any = configure) -> Any:
                optimizer = configure()
                optimizer.param_groups[0]["params"].insert(0, extra)
                return optimizer

            module.configure_optimizers = with_frozen
        run = truth.trainer("pytorch_lightning", instrument, accumulate_grad_batches=2)
        run.fit(module, DataLoader(truth.examples(48), batch_size=4))
        assert instrument.sums is not None
        measured.append({name: one.squared_gradient for name, one in instrument.result().groups.items()})
    assert measured[0] == measured[1]
    assert len(measured[0]) == 2
