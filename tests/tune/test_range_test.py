"""What a range test of a live module can be asked."""

from __future__ import annotations

import json
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus
from lrscale.tune import range_test
from lrscale.zoo import Digits, DigitsMLP

SHORT: dict[str, Any] = {"seeds": 1, "steps": 40, "lr_min": 1e-5, "lr_max": 10.0, "confirm": False}


def points(size: int = 128) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, 4, generator=generator)
    return TensorDataset(inputs, inputs @ torch.tensor([1.0, -2.0, 0.5, 1.5]))


def loader(batch_size: int = 16) -> DataLoader[Any]:
    return DataLoader(points(), batch_size=batch_size, shuffle=True)


class Linear(pl.LightningModule):
    """Linear regression that writes down what happens, outside of itself."""

    log_of: dict[str, list[Any]] = {}  # noqa: RUF012 -- the instance is put back

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.mse_loss(self.layer(batch[0])[:, 0].float(), batch[1])
        self.log_of.setdefault("losses", []).append(float(loss.detach()))
        self.log_of.setdefault("sizes", []).append(len(batch[0]))
        self.log("score", 1 / (1 + loss.detach()))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = nn.functional.mse_loss(self.layer(batch[0])[:, 0].float(), batch[1])
        self.log("val_loss", loss)
        self.log("val_score", 1 / (1 + loss))

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        total = torch.stack([weight.grad.norm() for weight in self.parameters() if weight.grad is not None]).norm()
        self.log_of.setdefault("norms", []).append(float(total))
        self.log_of.setdefault("lrs", []).append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


@pytest.fixture(autouse=True)
def _clear() -> None:
    Linear.log_of.clear()


def trainer(tmp_path: Any, **settings: Any) -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path, **settings)


def test_one_call_finds_and_confirms_the_lr_of_digits_and_shows_it() -> None:
    torch.manual_seed(0)
    found = range_test(DigitsMLP(width=32), Digits(), seeds=2, confirm_steps=60)
    assert found.lr is not None
    assert found.interval is not None
    # Fixed LRs between these end within a tenth of the lowest loss at this horizon.
    assert 2e-3 < found.lr < 4e-2
    assert found.max_stable_lr is not None
    assert found.max_stable_lr > found.lr
    assert (found.monitor, found.confirmed_by) == ("training loss", "val_loss")
    assert str(found) == found.summary()
    assert f"confirmed LR      {found.lr:.3g}" in found.summary()
    page = found._repr_html_()
    assert page.startswith("<div><svg")
    assert "<pre>batch 64" in page
    import matplotlib

    matplotlib.use("Agg")
    axes = found.plot()
    assert axes.get_xscale() == "log"
    assert f"confirmed {found.lr:.2g}" in [text.get_text() for text in axes.get_legend().get_texts()]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["families"][0]["confirmation"]["lr"] == found.lr
    matplotlib.pyplot.close(axes.figure)


def test_several_batch_sizes_are_families_of_their_own() -> None:
    found = range_test(Linear(), loader(16), batch_sizes=[8, 64], **SHORT)
    assert [family.batch_size for family in found.families] == [8, 64]
    # The loader's own batch is known to fit, so that 64 examples are accumulated.
    assert set(Linear.log_of["sizes"]) == {8, 16}
    assert Linear.log_of["sizes"].count(16) == 4 * len(found[64].curves[0].lr)
    with pytest.raises(LrscaleError, match=r"several batch sizes: \[8, 64\]"):
        found.lr  # noqa: B018 -- the access is what is tested
    with pytest.raises(LrscaleError, match="no range test at batch 7"):
        found[7]


def test_accumulation_averages_micro_batches_and_clipping_is_done(tmp_path: Any) -> None:
    settings = trainer(tmp_path, accumulate_grad_batches=4, gradient_clip_val=0.125)
    found = range_test(Linear(), loader(8), trainer=settings, **SHORT)
    curve = found.families[0].curves[0]
    assert found.families[0].batch_size == 32
    losses = np.array(Linear.log_of["losses"]).reshape(-1, 4).mean(axis=1)
    np.testing.assert_allclose(curve.loss, losses[: len(curve.loss)], rtol=1e-5)
    assert settings.global_step == 0


def test_the_same_global_batch_gives_the_same_curve_however_it_is_formed(tmp_path: Any) -> None:
    torch.manual_seed(0)
    module = Linear()
    whole = range_test(module, loader(32), **SHORT)
    split = range_test(module, loader(8), trainer=trainer(tmp_path, accumulate_grad_batches=4), **SHORT)
    one, other = (found.families[0].curves[0] for found in (whole, split))
    assert one.lr == other.lr
    np.testing.assert_allclose(one.loss[:25], other.loss[:25], rtol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precision_is_the_trainers(tmp_path: Any, precision: Any) -> None:
    seen: set[torch.dtype] = set()

    class Sees(Linear):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen.add(self.layer(batch[0]).dtype)
            return super().training_step(batch, batch_idx)

    range_test(Sees(), loader(), trainer=trainer(tmp_path, precision=precision), **SHORT)
    assert seen == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}


def half_trainer(tmp_path: Any, scale: float) -> tuple[pl.Trainer, torch.amp.GradScaler]:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000)
    return trainer(tmp_path, plugins=[MixedPrecision("16-mixed", "cpu", scaler)]), scaler


def test_the_loss_scale_is_taken_out_before_clipping_and_the_trainers_scaler_stays(tmp_path: Any) -> None:
    half, scaler = half_trainer(tmp_path, 2.0**8)
    torch.manual_seed(0)
    module = Linear()
    scaled = range_test(module, loader(), trainer=half, **SHORT).families[0].curves[0]
    norms = Linear.log_of.pop("norms")
    plain = range_test(module, loader(), **SHORT).families[0].curves[0]
    np.testing.assert_allclose(scaled.loss[:20], plain.loss[:20], rtol=2e-2)
    np.testing.assert_allclose(norms[:20], Linear.log_of["norms"][:20], rtol=5e-2)
    assert scaler.get_scale() == 2.0**8


def test_steps_that_the_scaler_skips_are_no_divergence(tmp_path: Any) -> None:
    # Half precision ends at 65504: gradients overflow until the scale has come down, step by step.
    half, scaler = half_trainer(tmp_path, 2.0**24)
    found = range_test(Linear(), loader(), trainer=half, **{**SHORT, "lr_max": 0.1})
    curve = found.families[0].curves[0]
    assert curve.diverged_at is None
    assert len(curve.lr) == 40
    assert np.isfinite(curve.loss).all()
    assert scaler.get_scale() == 2.0**24


@pytest.mark.parametrize(
    ("monitor", "mode", "sign"), [("val_loss", "min", 1), ("val_score", "max", -1), ("score", "max", -1)]
)
def test_curves_of_any_logged_value(monitor: str, mode: Any, sign: int) -> None:
    torch.manual_seed(0)
    settings = {**SHORT, "confirm": True, "confirm_steps": 30}
    found = range_test(Linear(), loader(), val_data=loader(128), monitor=monitor, mode=mode, **settings)
    curve = found.families[0].curves[0]
    assert found.confirmed_by == monitor
    assert found.monitor == (monitor if sign > 0 else f"negative of {monitor}")
    assert len(curve.loss) == len(curve.lr) >= 20
    assert all(np.sign(value) == sign for value in curve.loss if np.isfinite(value))
    assert found.families[0].finding.status is FitStatus.OK
    confirmation = found.families[0].confirmation
    assert confirmation is not None
    # Gradient descent on least squares of unit inputs is best below its edge near 1.
    assert confirmation.lowest_tested is not None
    assert 0.03 < confirmation.lowest_tested < 1.0


def test_a_value_that_is_logged_nowhere_is_named_with_what_is() -> None:
    with pytest.raises(LrscaleError, match=r"monitor val_los was not logged.*did you mean val_loss") as refused:
        range_test(Linear(), loader(), val_data=loader(), monitor="val_los", **SHORT)
    assert "task" not in str(refused.value)


class Pair(pl.LightningModule):
    """Two optimizers that it steps itself; the second one's parameters follow the first one's."""

    used: list[tuple[float, float]] = []  # noqa: RUF012 -- outside of the instance, which is put back

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        one, other = self.optimizers()
        self.used.append((one.param_groups[0]["lr"], other.param_groups[0]["lr"]))
        losses = [nn.functional.mse_loss(part(batch[0])[:, 0], batch[1]) for part in (self.first, self.second)]
        for optimizer, loss in zip((one, other), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("first_loss", losses[0].detach())
        self.log("second_loss", losses[1].detach())

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.first.parameters(), lr=0.01),
            torch.optim.SGD(self.second.parameters(), lr=0.04),
        ]


@pytest.mark.parametrize("moved", [0, 1, None])
def test_manual_optimization_moves_the_optimizer_that_is_asked_for(moved: int | None) -> None:
    Pair.used.clear()
    name = "second_loss" if moved == 1 else "first_loss"
    found = range_test(Pair(), loader(128), monitor=name, optimizer=moved, **SHORT)
    curve = found.families[0].curves[0]
    # The first call is the probe that looks for the monitored value.
    first, second = np.array(Pair.used[1:][: len(curve.lr)]).T
    if moved == 0:
        np.testing.assert_allclose(first, curve.lr)
        np.testing.assert_allclose(second, 0.04)
    elif moved == 1:
        np.testing.assert_allclose(second, curve.lr)
        np.testing.assert_allclose(first, 0.01)
    else:
        np.testing.assert_allclose(first, curve.lr)
        np.testing.assert_allclose(second, 4 * np.array(curve.lr))
    assert found.families[0].finding.status is FitStatus.OK
    with pytest.raises(LrscaleError, match="has 2 optimizers"):
        range_test(Pair(), loader(), monitor=name, optimizer=2, **SHORT)


def test_a_module_that_steps_itself_cannot_be_given_a_batch_that_must_be_accumulated() -> None:
    with pytest.raises(LrscaleError, match="steps its optimizers itself, so a batch of 64"):
        range_test(Pair(), loader(16), monitor="first_loss", batch_sizes=[64], **SHORT)


@pytest.mark.parametrize("kind", ["one cycle", "plateau"])
def test_the_modules_own_schedulers_stand_still(kind: str) -> None:
    class Scheduled(Linear):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            if kind == "plateau":
                plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
            steps = int(self.trainer.estimated_stepping_batches)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    found = range_test(Scheduled(), loader(), val_data=loader(), **SHORT)
    curve = found.families[0].curves[0]
    np.testing.assert_allclose(Linear.log_of["lrs"][: len(curve.lr)], curve.lr)
    assert any("is replaced" in note for note in found.notes)


def test_a_staircase_holds_each_lr_and_validates_once_on_it() -> None:
    found = range_test(Linear(), loader(), val_data=loader(128), monitor="val_loss", hold=3, **{**SHORT, "steps": 20})
    curve = found.families[0].curves[0]
    used = np.array(Linear.log_of["lrs"][1:])
    np.testing.assert_allclose(used[::3][: len(curve.lr)], curve.lr)
    np.testing.assert_allclose(used.reshape(-1, 3).std(axis=1), 0.0, atol=1e-12)
    assert found.steps == 60


def test_equal_seeds_give_equal_curves_and_other_seeds_other_orders() -> None:
    torch.manual_seed(0)
    module = Linear()
    first = range_test(module, loader(), **{**SHORT, "seeds": [3, 4]})
    torch.rand(5)
    second = range_test(module, loader(), **{**SHORT, "seeds": [4, 3]})
    one, other = first.families[0].curves, second.families[0].curves
    assert (one[0], one[1]) == (other[1], other[0])
    assert one[0].loss != one[1].loss


def test_a_module_that_raises_on_wild_values_has_diverged_there() -> None:
    class Checks(Linear):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if loss > 1e3:
                raise ValueError("Expected parameter loc to satisfy the constraint Real(), found invalid values: nan")
            return loss

    curve = range_test(Checks(), loader(), **SHORT).families[0].curves[0]
    assert curve.diverged_at is not None
    assert 0.3 < curve.diverged_at < 10.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_min": 1.0, "lr_max": 0.1}, "a ramp from 1.0 to 0.1"),
        ({"steps": 10}, "steps must be at least 15, not 10"),
        ({"hold": 0}, "hold must be at least 1"),
        ({"mode": "low"}, "mode must be min or max"),
        ({"seeds": 0}, "there is no seed"),
        ({"optimizer": -1}, "optimizer must be at least 0"),
        ({"confirm": True, "confirm_steps": 0}, "confirm_steps must be at least 1, not 0"),
        ({"batch_sizes": [1000]}, "larger than the training data"),
        ({"optimizer_state": True}, "needs a Trainer that has fitted"),
        ({"val_data": loader(), "data": Digits()}, "LightningDataModule of lightning.pytorch"),
    ],
)
def test_misuse_is_named(settings: dict[str, Any], message: str) -> None:
    data = settings.pop("data", loader())
    with pytest.raises(LrscaleError, match=message):
        range_test(Linear(), data, **{**SHORT, **settings})


def test_a_trainer_of_the_other_package_and_missing_ranks_are_refused(tmp_path: Any, monkeypatch: Any) -> None:
    import pytorch_lightning

    other = pytorch_lightning.Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    with pytest.raises(LrscaleError, match=r"pass a Trainer of lightning\.pytorch"):
        range_test(Linear(), loader(), trainer=other)
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    wants_two = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, default_root_dir=tmp_path)
    with pytest.raises(LrscaleError, match=r"wants 2 ranks.*torchrun --nproc-per-node 2"):
        range_test(Linear(), loader(), trainer=wants_two)
