"""A range test leaves a user's objects and this process as they were, to the bit."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tune_modules import EverythingL, EverythingP, Rows, differences, fingerprint, loader

from lrscale.errors import LrscaleError
from lrscale.tune import range_test
from lrscale.tune.kept import Kept

SHORT: dict[str, Any] = {"seeds": 2, "steps": 20, "confirm_steps": 6, "lr_min": 1e-5, "lr_max": 30.0}


class Data(pl.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare")

    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        self.rows = Rows()

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.rows, batch_size=8, shuffle=True)

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.rows, batch_size=16)


def quiet_trainer(folder: Path, **settings: Any) -> pl.Trainer:
    settings = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu", "devices": 1} | settings
    return pl.Trainer(
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **settings,
    )


def fit(trainer: pl.Trainer, module: Any, data: Any) -> None:
    """Fit as a user would; what Lightning has to say of it is not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data)


@pytest.mark.parametrize("kind", [EverythingL, EverythingP])
def test_a_fresh_module_and_its_loaders_are_as_before(kind: Any) -> None:
    torch.manual_seed(0)
    module, train, validation = kind(), loader(), loader(16)
    module.eval()
    module.head.train()
    module.head.weight.grad = torch.full_like(module.head.weight, 2.0)
    module.head.bias.requires_grad_(False)
    before = fingerprint(module, train, validation)
    result = range_test(module, train, val_data=validation, **SHORT)
    assert differences(before, fingerprint(module, train, validation)) == []
    assert [len(curve.lr) for curve in result.families[0].curves] != [0, 0]


def test_a_data_module_is_set_up_once_and_as_before() -> None:
    module, data = EverythingL(), Data()
    before = fingerprint(module, data)
    asked: list[str] = []
    data.calls = asked
    before = fingerprint(module, data)
    torn: list[str] = []
    Data.teardown = lambda self, stage: torn.extend([*self.calls, f"torn down {stage}"])  # type: ignore[method-assign]
    try:
        range_test(module, data, **SHORT)
    finally:
        del Data.teardown
    assert torn == ["prepare", "fit", "torn down fit"]
    assert differences(before, fingerprint(module, data)) == []


def test_files_environment_handlers_and_log_levels_are_as_before(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    logger = logging.getLogger("lightning.pytorch")

    def state() -> Any:
        handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        return dict(os.environ), handlers, logger.level, sorted(tmp_path.rglob("*")), torch.get_num_threads()

    before = state()
    range_test(EverythingL(), loader(), **SHORT)
    assert state() == before


def test_after_an_exception_everything_is_as_before() -> None:
    module, train = EverythingL(), loader()
    before = fingerprint(module, train)
    step = EverythingL.training_step

    def fails(self: Any, batch: Any, batch_idx: int) -> Any:
        if len(self.seen) == 5:
            raise KeyError("no such column")
        return step(self, batch, batch_idx)

    EverythingL.training_step = fails
    try:
        with pytest.raises(KeyError, match="no such column"):
            range_test(module, train, **SHORT)
    finally:
        EverythingL.training_step = step
    assert differences(before, fingerprint(module, train)) == []


def test_an_interrupt_stays_an_interrupt() -> None:
    module = EverythingL()
    before = fingerprint(module)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    step = EverythingL.training_step
    EverythingL.training_step = lambda self, batch, batch_idx: interrupt("")
    try:
        with pytest.raises(KeyboardInterrupt):
            range_test(module, loader(), **SHORT)
    finally:
        EverythingL.training_step = step
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert differences(before, fingerprint(module)) == []


class Finder(pl.Callback):
    """The documented pattern of a finder at the beginning of some epochs."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.points: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        result = range_test(pl_module, trainer=trainer, **{**SHORT, **self.settings})
        self.points.append([len(curve.lr) for curve in result.families[0].curves])


@pytest.mark.parametrize(
    "settings",
    [{}, {"data": Data}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}, {"precision": "bf16-mixed"}],
    ids=["plain", "data module", "accumulated and clipped", "bf16"],
)
def test_training_goes_on_as_if_it_had_not_been_called(tmp_path: Path, settings: Any) -> None:
    settings = dict(settings)
    kind = settings.pop("data", loader)

    def train(callbacks: list[Any]) -> Any:
        pl.seed_everything(1, verbose=False)
        module, data = EverythingL(), kind()
        trainer = quiet_trainer(tmp_path, max_epochs=3, limit_val_batches=0, callbacks=callbacks, **settings)
        fit(trainer, module, data)
        optimizer = trainer.optimizers[0].state_dict()
        moments = [value for state in optimizer["state"].values() for value in state.values()]
        schedulers = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        return [*module.state_dict().values(), *moments, module.moving, torch.get_rng_state()], (
            getattr(data, "calls", None),
            module.seen,
            module.nested["a"],
            optimizer["param_groups"],
            schedulers,
            trainer.global_step,
            trainer.current_epoch,
            float(trainer.callback_metrics["train_loss"]),
        )

    finder = Finder(confirm=False)
    tensors, facts = train([])
    with_finder, facts_with_finder = train([finder])
    assert facts_with_finder == facts
    assert all(torch.equal(one, other) for one, other in zip(tensors, with_finder, strict=True))
    assert len(finder.points) == 3
    assert all(count >= 15 for counts in finder.points for count in counts)


def test_a_call_at_the_end_of_validation_where_gradients_are_off_trains_all_the_same(tmp_path: Path) -> None:
    seen: list[Any] = []

    class AfterValidation(pl.Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            before = fingerprint(pl_module)
            found = range_test(pl_module, trainer=trainer, seeds=1, steps=20, confirm=False)
            seen.append((torch.is_grad_enabled(), pl_module.training, found.families[0].curves[0].loss))
            assert differences(before, fingerprint(pl_module)) == []

    fit(quiet_trainer(tmp_path, max_epochs=1, callbacks=[AfterValidation()]), EverythingL(), Data())
    ((gradients, training, loss),) = seen
    assert (gradients, training) == (False, False)
    assert len(set(loss)) == len(loss) > 15
    module = EverythingL()
    before = fingerprint(module)
    with torch.inference_mode():
        range_test(module, Data(), seeds=1, steps=20, confirm=False)
    assert differences(before, fingerprint(module)) == []


@pytest.mark.slow
def test_workers_that_live_on_are_not_disturbed(tmp_path: Path) -> None:
    def train(callbacks: list[Any]) -> list[torch.Tensor]:
        pl.seed_everything(1, verbose=False)
        module = EverythingL()
        data = torch.utils.data.DataLoader(Rows(), 8, shuffle=True, num_workers=1, persistent_workers=True)
        fit(quiet_trainer(tmp_path, max_epochs=2, limit_val_batches=0, callbacks=callbacks), module, data)
        return [*module.state_dict().values(), torch.get_rng_state()]

    class Middle(pl.Callback):
        """Calls while the worker has batches in its queue."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                range_test(pl_module, trainer=trainer, seeds=1, steps=15, confirm=False)

    assert all(torch.equal(one, other) for one, other in zip(train([]), train([Middle()]), strict=True))


def test_loggers_checkpoints_and_callbacks_of_the_trainer_are_not_used(tmp_path: Path) -> None:
    class Counts(pl.Callback):
        calls = 0

        def on_train_batch_end(self, *arguments: Any) -> None:
            self.calls += 1

    counts = Counts()
    checkpoint = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "checkpoints")
    trainer = quiet_trainer(
        tmp_path / "root",
        callbacks=[counts, checkpoint],
        enable_checkpointing=True,
        logger=pl.loggers.CSVLogger(tmp_path / "logs"),
        max_epochs=1,
        limit_val_batches=0,
    )
    module = EverythingL()
    result = range_test(module, loader(), trainer=trainer, confirm=False, **{**SHORT, "confirm_steps": None})
    assert counts.calls == 0
    assert sorted(tmp_path.rglob("*")) == []
    assert trainer.global_step == 0
    assert trainer.callbacks[:1] == [counts]
    assert module._trainer is None
    assert result.notes[0] == "the Trainer's callbacks do not run: Counts"
    fit(trainer, module, loader())
    assert trainer.global_step == 12


def test_from_a_checkpoint_the_curve_begins_at_its_loss(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    trained, data = EverythingL(), loader()
    trainer = quiet_trainer(tmp_path, max_epochs=30, limit_val_batches=0)
    fit(trainer, trained, data)
    trainer.save_checkpoint(tmp_path / "here.ckpt")
    loaded = EverythingL()
    loaded.load_state_dict(torch.load(tmp_path / "here.ckpt", weights_only=False)["state_dict"], strict=False)
    first = range_test(trained, data, confirm=False, seeds=2, steps=20)
    second = range_test(loaded, data, confirm=False, seeds=2, steps=20)
    fresh = range_test(EverythingL(), data, confirm=False, seeds=2, steps=20)
    assert first.families[0].curves == second.families[0].curves
    begins = [sum(found.families[0].curves[0].loss[:5]) / 5 for found in (first, fresh)]
    assert begins[0] < 0.5 * begins[1]


def test_a_fitted_optimizer_lends_its_moments_and_keeps_them(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    module, data = EverythingL(), loader()
    trainer = quiet_trainer(tmp_path, max_epochs=2, limit_val_batches=0)
    with pytest.raises(LrscaleError, match="needs a Trainer that has fitted"):
        range_test(module, data, trainer=trainer, optimizer_state=True)
    fit(trainer, module, data)
    state = trainer.optimizers[0].state
    before = [value.clone() for own in state.values() for value in own.values()]
    fresh = range_test(module, data, trainer=trainer, confirm=False, seeds=1, steps=20)
    lent = range_test(module, data, trainer=trainer, confirm=False, seeds=1, steps=20, optimizer_state=True)
    after = [value for own in state.values() for value in own.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    one, other = (found.families[0].curves[0].loss for found in (fresh, lent))
    # The first step is taken by the weights alone; from the second on the moments tell.
    assert one[0] == other[0]
    assert one[1:] != other[1:]


def test_parameters_that_are_not_there_yet_are_refused() -> None:
    with pytest.raises(LrscaleError, match="not initialised yet"):
        Kept(torch.nn.LazyLinear(2))


def test_a_moved_storage_is_put_back_where_it_was() -> None:
    layer = torch.nn.Linear(2, 2)
    place, kept = layer.weight.data_ptr(), Kept(layer)
    layer.to(torch.float64)
    layer.extra = torch.nn.Linear(1, 1)
    layer.weight.register_hook(lambda gradient: gradient)
    kept.restore()
    assert layer.weight.data_ptr() == place
    assert layer.weight.dtype is torch.float32
    assert not hasattr(layer, "extra")
    assert not layer.weight._backward_hooks
