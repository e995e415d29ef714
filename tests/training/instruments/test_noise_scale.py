"""The instrument in real fits: gradients whose noise is known in closed form, on one rank and on two."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradient_truth as truth
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lrscale
from lrscale.errors import LrscaleError
from lrscale.training.instruments.batch_split import CannotSplitError, split_batch
from lrscale.training.instruments.gradient_table import GradientTable, MeasuredStep
from lrscale.training.instruments.micro_gradients import AdamDenominators, MicroGradients

FLAVOURS = ("lightning.pytorch", "pytorch_lightning")
STEPS, BATCH = 120, 32


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def near(value: float, expected: float, se: float) -> bool:
    return abs(value - expected) < 3 * se < expected


def assert_true(found: dict[str, Any]) -> None:
    """Compare a result with the closed form, within three standard errors."""
    known = {
        "total": (truth.SQUARE, truth.TRACE),
        "weights": (truth.WEIGHT_SQUARE, truth.WEIGHT_TRACE),
        "biases": (truth.BIAS_SQUARE, truth.BIAS_TRACE),
    }
    for name, one in {"total": found["total"], **found["groups"]}.items():
        square, trace = known[name]
        assert one["status"] == "ok", one["reason"]
        assert near(one["squared_gradient"], square, one["squared_gradient_se"]), name
        assert near(one["noise_trace"], trace, one["noise_trace_se"]), name
    for key in ("squared_gradient", "noise_trace"):
        parts = sum(one[key] for one in found["groups"].values())
        assert parts == pytest.approx(found["total"][key], rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_two_ranks_measure_what_the_closed_form_says(accumulate: int) -> None:
    first, second = truth.run_ranks(2, truth.measure, "pytorch_lightning", STEPS, BATCH, accumulate)
    assert_true(first["result"])
    assert first == second
    assert first["sums"]["count"] == [2.0 * accumulate] * STEPS
    assert first["sums"]["examples"] == pytest.approx([BATCH / 2 / accumulate] * STEPS)
    assert first["result"]["total"]["global_batch_size"] == BATCH


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_accumulation_on_one_rank_measures_what_the_closed_form_says(flavour: str) -> None:
    found = truth.measure(flavour, STEPS, BATCH, 4)
    assert_true(found["result"])
    assert found["sums"]["count"] == [4.0] * STEPS


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_parts_of_a_batch_measure_what_the_closed_form_says(flavour: str) -> None:
    found = truth.measure(flavour, STEPS, BATCH, 1, instrument={"split_every": 1})
    assert_true(found["result"])
    assert found["sums"]["count"] == [8.0] * STEPS
    assert found["sums"]["examples"] == pytest.approx([4.0] * STEPS)


def test_bf16_mixed_measures_what_the_closed_form_says() -> None:
    assert_true(truth.measure("pytorch_lightning", STEPS, BATCH, 4, precision="bf16-mixed")["result"])


@pytest.mark.parametrize(("accumulate", "counts"), [(4, 4), (1, 8)])
def test_a_loss_scaler_changes_nothing_and_its_skipped_steps_are_left_out(accumulate: int, counts: int) -> None:
    precision = importlib.import_module("pytorch_lightning.plugins.precision").MixedPrecision
    # The scale is far too large at first: the scaler skips steps and halves it until the gradients are finite.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=50)
    found = truth.measure(
        "pytorch_lightning",
        STEPS,
        BATCH,
        accumulate,
        plugins=[precision("16-mixed", "cpu", scaler=scaler)],
        instrument={"split_every": 1},
        gradient_clip_val=1e-3,
    )
    assert_true(found["result"])
    assert scaler.get_scale() != 2.0**22
    assert set(found["sums"]["count"]) == {counts}
    left_out = STEPS - len(found["sums"]["step"])
    assert left_out >= 1
    assert found["result"]["notes"] == [f"{left_out} steps with a gradient that is not finite are left out"]


@pytest.mark.parametrize(
    ("ranks", "accumulate", "model"),
    [
        (1, 1, "gpt"),
        (1, 4, "digits"),
        (2, 1, "digits"),
        (2, 4, "gpt"),
        pytest.param(1, 1, "digits", marks=pytest.mark.slow),
        pytest.param(1, 4, "gpt", marks=pytest.mark.slow),
        pytest.param(2, 1, "gpt", marks=pytest.mark.slow),
        pytest.param(2, 4, "digits", marks=pytest.mark.slow),
    ],
)
def test_training_is_the_same_to_the_last_bit(ranks: int, accumulate: int, model: str) -> None:
    measured = truth.run_ranks(ranks, truth.train, True, accumulate, model)
    plain = truth.run_ranks(ranks, truth.train, False, accumulate, model)
    for one, other in zip(measured, plain, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
        assert one["steps"] == 20


def test_clipping_comes_after_the_measurement_and_the_last_accumulation_may_be_short() -> None:
    # 10 backwards of 4 each, so that the third step of the epoch has two only.
    instrument, module = lrscale.GradientNoiseScale(budget=None), truth.make()
    run = truth.trainer(
        "pytorch_lightning", instrument, accumulate_grad_batches=4, gradient_clip_val=1e-6, max_epochs=2
    )
    data = truth.examples(40)
    run.fit(module, DataLoader(data, batch_size=4))
    assert instrument.sums is not None
    assert instrument.sums.count.tolist() == [4, 4, 2] * 2
    x, y = data.tensors
    per_example = (x @ module.weight + module.bias - y).detach()[:, None] * torch.cat([x, torch.ones(40, 1)], 1)
    micro = per_example.reshape(10, 4, -1).mean(1)
    for step, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
        expected = micro[rows].square().sum(1).mean(), micro[rows].mean(0).square().sum()
        assert instrument.sums.mean_square[step] == pytest.approx(float(expected[0]), rel=1e-5)
        assert instrument.sums.square_mean[step] == pytest.approx(float(expected[1]), rel=1e-5)


def test_the_short_last_batch_of_an_epoch_counts_its_own_examples() -> None:
    instrument = lrscale.GradientNoiseScale(budget=None)
    run = truth.trainer("pytorch_lightning", instrument, accumulate_grad_batches=2)
    run.fit(truth.make(), DataLoader(truth.examples(13), batch_size=4))
    assert instrument.sums is not None
    assert instrument.sums.examples.tolist() == pytest.approx([4.0, 2 / (1 / 4 + 1 / 1)])


def test_adams_preconditioner_divides_every_micro_gradient() -> None:
    torch.manual_seed(0)
    shared = torch.nn.Parameter(torch.randn(3, 3))
    other = torch.nn.Parameter(torch.randn(3))
    unused = torch.nn.Parameter(torch.randn(2))
    optimizer = torch.optim.AdamW([{"params": [shared, unused]}, {"params": [other]}], lr=1e-3, eps=1e-3)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x @ shared @ shared + other).square().mean()

    denominators = AdamDenominators([shared, other, unused], [optimizer])
    for _ in range(6):
        assert not denominators.ready()
        optimizer.zero_grad()
        loss(torch.randn(4, 3)).backward()
        if optimizer.state:
            assert float(optimizer.state[shared]["step"]) < 6
        optimizer.step()
        if float(optimizer.state[shared]["step"]) >= 5:
            break
    assert denominators.ready()
    x = torch.randn(4, 3)
    gradients = torch.autograd.grad(loss(x), [shared, other])
    wanted = []
    for leaf, gradient in zip((shared, other), gradients, strict=True):
        v_hat = optimizer.state[leaf]["exp_avg_sq"] / (1 - 0.999**5)
        wanted.append(float((gradient / (v_hat.sqrt() + 1e-3)).norm()))
    reader = MicroGradients([shared, other, unused], denominators)
    for direct in (False, True):
        optimizer.zero_grad()
        reader.listen(not direct)
        denominators.refresh()
        root = loss(x)
        reader.open(direct=direct, precondition=True)
        root.backward()
        norms = reader.close()
        assert norms is not None and norms.preconditioned is not None
        found = dict(
            zip(norms.places, zip(map(float, norms.plain), map(float, norms.preconditioned), strict=True), strict=True)
        )
        # The weight that is used twice counts once, and the one without a gradient not at all.
        assert sorted(found) == [0, 1]
        for place, (plain, own) in found.items():
            assert plain == pytest.approx(float(gradients[place].norm()), rel=1e-6)
            assert own == pytest.approx(wanted[place], rel=1e-5)
    reader.detach()
    assert all(not leaf._backward_hooks and not leaf._post_accumulate_grad_hooks for leaf in (shared, other, unused))


def test_gradients_are_reduced_in_portions_when_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrscale.training.instruments.micro_gradients.HELD_BYTES", 10)
    leaves = [torch.nn.Parameter(torch.full((4,), float(size))) for size in (1, 2, 3)]
    reader = MicroGradients(leaves)
    reader.listen(True)
    root = sum((leaf.square().sum() for leaf in leaves), torch.zeros(()))
    reader.open(direct=False, precondition=False)
    root.backward()
    norms = reader.close()
    assert norms is not None
    assert dict(zip(norms.places, map(float, norms.plain), strict=True)) == {0: 4.0, 1: 8.0, 2: 12.0}
    reader.listen(False)
    assert all(not leaf._backward_hooks for leaf in leaves)


def test_sums_are_the_same_however_many_norms_are_put_together_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []
    for held in (1, 5, 4096):
        monkeypatch.setattr("lrscale.training.instruments.gradient_table.HELD", held)
        table = GradientTable([0, 1, 0])
        # Two backwards, one without a gradient of the first parameter; then a step that no parameter has a mean for.
        step = MeasuredStep(3, (4.0, 2.0), ((0, 1, 2), (2, 1), (1, 0)), 2.0, 0.5)
        table.add(step, [torch.tensor(float(norm)) for norm in (1, 2, 3, 4, 5, 6, 7)])
        table.add(step._replace(step=4, places=((), (0,), ())), [torch.tensor(8.0)])
        assert len(table) == 2
        steps, sums = table.pack()
        assert steps == [3, 4] and len(table) == 0
        packed.append(sums.tolist())
    # Columns: backwards, sum of 1 / examples, squares of both groups times 2 ** 2, those of the mean times 0.5 ** 2.
    expected = [[2, 0.75, 4 * (1 + 9 + 16), 4 * (4 + 25), 49 / 4, 36 / 4], [2, 0.75, 4 * 64, 0, 0, 0]]
    assert packed == [expected] * 3


def test_preconditioned_norms_are_the_same_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.nn.Parameter(torch.randn(size, generator=generator)) for size in (4, 5, 3)]
    optimizer = torch.optim.AdamW(leaves[:2], lr=0.0)
    optimizer.add_param_group({"params": leaves[2:], "betas": (0.8, 0.9), "eps": 1e-2})
    for leaf in leaves:
        leaf.grad = torch.randn(leaf.shape, generator=generator)
    optimizer.step()
    denominators = AdamDenominators(leaves, [optimizer])
    denominators.refresh()
    reader = MicroGradients(leaves, denominators)
    expected = []
    for leaf, beta, eps in zip(leaves, (0.999, 0.999, 0.9), (1e-8, 1e-8, 1e-2), strict=True):
        assert leaf.grad is not None
        v_hat = optimizer.state[leaf]["exp_avg_sq"] / (1 - beta)
        expected.append(float((leaf.grad / (v_hat.sqrt() + eps)).norm()))
    for held in (1, 40, 2**20):
        monkeypatch.setattr("lrscale.training.instruments.micro_gradients.HELD_BYTES", held)
        found = reader.norms([leaf.grad for leaf in leaves], precondition=True)
        assert found is not None and found.preconditioned is not None
        assert [float(one) for one in found.preconditioned] == pytest.approx(expected, rel=1e-5)


def test_adam_gets_a_preconditioned_noise_scale_and_sgd_does_not() -> None:
    with_adam = truth.measure(
        "pytorch_lightning", 40, 16, 4, optimizer="AdamW", instrument={"preconditioned_every": 1}, lr=1e-4
    )["result"]
    assert with_adam["preconditioned"]["steps"] == 35
    assert set(with_adam["preconditioned_groups"]) == {"weights", "biases"}
    assert with_adam["preconditioned"]["noise_trace"] != pytest.approx(with_adam["total"]["noise_trace"], rel=0.05)
    with_sgd = truth.measure("pytorch_lightning", 12, 16, 4)["result"]
    assert with_sgd["preconditioned"]["status"] == "not_measured"
    assert "Adam" in with_sgd["preconditioned"]["reason"]


def test_checkpoints_logs_and_the_module_are_left_alone(tmp_path: Path) -> None:
    seen = []
    for instrument in (None, lrscale.GradientNoiseScale(split_every=1, budget=None)):
        module = truth.make()
        run = truth.trainer("pytorch_lightning", instrument)
        run.fit(module, DataLoader(truth.examples(64), batch_size=8))
        run.save_checkpoint(tmp_path / "one.ckpt")
        saved = torch.load(tmp_path / "one.ckpt", weights_only=False)
        kept = {key: saved[key] for key in ("global_step", "epoch", "callbacks", "optimizer_states")}
        seen.append((str(kept), dict(run.callback_metrics), module.calls, sorted(module.__dict__)))
        assert all(not leaf._backward_hooks for leaf in module.parameters())
        assert all(not leaf._post_accumulate_grad_hooks for leaf in module.parameters())
    assert seen[0] == seen[1]
    assert seen[0][2] == 8


def test_buffers_metrics_and_lists_of_the_module_are_put_back() -> None:
    pl = importlib.import_module("pytorch_lightning")
    torchmetrics = importlib.import_module("torchmetrics")

    class Busy(pl.LightningModule):  # type: ignore[misc, name-defined]  # the base is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
            self.mean = torchmetrics.MeanMetric()
            self.losses: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.net(batch[0] + 0.1 * torch.randn(1)).square().mean()
            self.mean(loss.detach())
            self.losses.append(float(loss))
            self.log("loss", loss)
            return {"loss": loss}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    ended = []
    for instrument in (None, lrscale.GradientNoiseScale(split_every=2, budget=None)):
        torch.manual_seed(0)
        module = Busy()
        data = DataLoader(TensorDataset(torch.randn(80, 3)), batch_size=8)
        truth.trainer("pytorch_lightning", instrument).fit(module, data)
        ended.append((module.losses, float(module.mean.compute()), int(module.net[1].num_batches_tracked)))
        ended[-1] += (module.net[1].running_mean.tolist(), module.net[0].weight.tolist())
    assert ended[0] == ended[1]
    assert len(ended[0][0]) == 10


def test_the_noise_scale_is_logged_when_asked() -> None:
    instrument = lrscale.GradientNoiseScale(log=True, budget=None)
    run = truth.trainer("pytorch_lightning", instrument, accumulate_grad_batches=4)
    run.fit(truth.make(), DataLoader(truth.examples(110 * 32), batch_size=8))
    assert float(run.callback_metrics["noise_scale"]) == pytest.approx(truth.TRACE / truth.SQUARE, rel=0.4)


def test_what_cannot_be_measured_is_said() -> None:
    def reason(module: Any, data: Any, **settings: Any) -> str:
        instrument = lrscale.GradientNoiseScale(**{"budget": None, **settings.pop("instrument", {})})
        truth.trainer("pytorch_lightning", instrument, **settings).fit(module, data)
        total = instrument.result().total
        assert total.status.value == "not_measured"
        return total.reason

    loader = DataLoader(truth.examples(32), batch_size=8)
    assert lrscale.GradientNoiseScale().result().total.reason == "no fit has begun"
    assert "put off at 4 steps" in reason(truth.make(), loader, instrument={"budget": 0.015})
    assert "steps its optimizers itself" in reason(truth.make(manual=True), loader)
    unbatched = DataLoader(truth.examples(32), batch_size=None, sampler=[[0, 1, 2, 3]] * 4)
    assert "pass examples=" in reason(truth.make(), unbatched)
    assert "one example cannot be split" in reason(truth.make(), DataLoader(truth.examples(3), batch_size=1))
    stranger = DataLoader(truth.examples(32), batch_size=8, collate_fn=lambda rows: rows)
    module = truth.make()
    module.training_step = lambda batch, batch_idx: sum(
        (0.5 * (x @ module.weight + module.bias - y).square().sum() for x, y in batch), torch.zeros(())
    )
    assert "batch of 8 examples have a first dimension of 10" in reason(module, stranger)


def test_given_examples_are_believed() -> None:
    instrument = lrscale.GradientNoiseScale(examples=lambda batch: len(batch[1]), split_every=1, budget=None)
    unbatched = DataLoader(truth.examples(32), batch_size=None, sampler=[[0, 1, 2, 3]] * 4)
    truth.trainer("pytorch_lightning", instrument).fit(truth.make(), unbatched)
    assert instrument.sums is not None
    assert instrument.sums.examples.tolist() == [1.0] * 4


def test_steps_whose_gradients_are_not_finite_are_left_out_and_counted() -> None:
    x, y = truth.examples(64).tensors
    y[20] = float("inf")
    instrument = lrscale.GradientNoiseScale(budget=None)
    run = truth.trainer("pytorch_lightning", instrument, accumulate_grad_batches=4)
    run.fit(truth.make(), DataLoader(TensorDataset(x, y), batch_size=4))
    assert instrument.sums is not None
    # Without a scaler that skips the step, the parameters are not finite from then on.
    assert instrument.sums.step.tolist() == [0]
    assert "3 steps with a gradient that is not finite" in instrument.result().notes[0]


def test_a_training_step_without_a_loss_costs_its_step_only() -> None:
    module, instrument = truth.make(), lrscale.GradientNoiseScale(budget=None)
    step = module.training_step
    module.training_step = lambda batch, batch_idx: None if 4 <= batch_idx < 8 or batch_idx == 9 else step(batch, 0)
    run = truth.trainer("pytorch_lightning", instrument, accumulate_grad_batches=4)
    run.fit(module, DataLoader(truth.examples(64), batch_size=4))
    assert instrument.sums is not None
    assert instrument.sums.count.tolist() == [4, 3, 4]
    assert "1 steps are left out: they had" in instrument.result().notes[0]


def test_thawed_parameters_begin_a_new_measurement() -> None:
    module, instrument = truth.make(), lrscale.GradientNoiseScale(budget=None)
    base = importlib.import_module("pytorch_lightning").Callback

    class Thaw(base):  # type: ignore[misc, valid-type]  # the base is chosen at run time
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            pl_module.bias.requires_grad_(trainer.current_epoch > 0)

    run = truth.trainer(
        "pytorch_lightning", None, accumulate_grad_batches=2, max_epochs=2, callbacks=[Thaw(), instrument]
    )
    run.fit(module, DataLoader(truth.examples(32), batch_size=4))
    assert instrument.sums is not None
    assert instrument.sums.step.tolist() == [4, 5, 6, 7]
    assert list(instrument.result().groups) == ["weights", "biases"]
    assert "changed at step 4" in instrument.result().notes[0]


def test_batches_are_split_by_their_common_first_dimension() -> None:
    batch = {"x": torch.arange(10).reshape(5, 2), "y": (np.arange(5), "name", None, 3)}
    parts = split_batch(batch, 2)
    assert [share for _, share in parts] == [0.6, 0.4]
    assert torch.cat([part["x"] for part, _ in parts]).equal(batch["x"])
    assert np.concatenate([part["y"][0] for part, _ in parts]).tolist() == list(range(5))
    assert parts[0][0]["y"][1:] == ("name", None, 3)
    assert len(split_batch(batch, 99)) == 5
    for wrong, words in (
        ((torch.zeros(4), torch.zeros(3)), "first dimensions"),
        (object(), "holds a object"),
        (torch.zeros(1, 3), "one example"),
    ):
        with pytest.raises(CannotSplitError, match=words):
            split_batch(wrong, 2)


@pytest.mark.parametrize("wrong", [{"parts": 1}, {"split_every": 0}, {"examples": 0}, {"preconditioned_every": 0}])
def test_wrong_arguments_name_the_remedy(wrong: dict[str, int]) -> None:
    with pytest.raises(LrscaleError, match="use at least"):
        lrscale.GradientNoiseScale(**wrong)


def test_a_budget_is_a_share_of_the_time() -> None:
    with pytest.raises(LrscaleError, match="budget is 1; use a share of the time between 0 and 1"):
        lrscale.GradientNoiseScale(budget=1)
