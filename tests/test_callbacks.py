"""The recommendation in real training jobs: tiny modules, real Trainers, the LR that the optimizer really used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lrscale.errors import LrscaleError
from lrscale.recommend import Evidence, Recommendation, RecommendedSchedule, Validity
from lrscale.study.finding import Quantity

FLAVOURS = ("lightning.pytorch", "pytorch_lightning")
EXAMPLES = 64


def recommendation(steps: int = 8, batch: int = 8, **changes: Any) -> Recommendation:
    values: dict[str, Any] = {
        "name": "tiny",
        "created": "2026-01-02T03:04:05+00:00",
        "lrscale_version": "0",
        "monitor": "val_loss",
        "lr": Quantity(value=0.2, lo=0.1, hi=0.4),
        "equivalent_lr": (0.1, 0.3),
        "global_batch_size": batch,
        "per_device_batch_size": batch,
        "accumulate_grad_batches": 1,
        "devices": 1,
        "num_nodes": 1,
        "schedule": RecommendedSchedule(name="linear", warmup_steps=2, warmup_examples=2 * batch),
        "horizon_steps": steps,
        "horizon_examples": steps * batch,
        "expected_loss": Quantity(value=1.0),
        "expected_seconds": None,
        "validity": Validity(batch_sizes=(8, 8), learning_rates=(0.1, 0.4), horizon_examples=steps * batch),
        "stands_on": Evidence(trials=3, seeds=1),
        "confidence": "measured",
        "reasons": ("It was measured.",),
    }
    return Recommendation(**{**values, **changes})


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in (
            ".*num_workers.*",
            ".*logging interval.*",
            ".*LeafSpec.*",
            ".*isinstance.*",
            ".*GPU available.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", module="torch.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*")
        warnings.filterwarnings("ignore", message=".*You.*suggest.*")
        yield


def make(flavour: str, configure: Callable[[Any], Any] | None = None, *, manual: bool = False) -> Any:
    """Return a module of one flavour that notes the groups of every optimizer step."""
    package = __import__(flavour, fromlist=["LightningModule"])

    class Tiny(package.LightningModule):  # type: ignore[misc, name-defined]  # the base is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Linear(3, 3)
            self.head = torch.nn.Linear(3, 1)
            self.automatic_optimization = not manual
            self.seen: list[list[dict[str, Any]]] = []

        def loss(self, batch: Any) -> torch.Tensor:
            return self.head(self.body(batch[0])).square().mean()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if not manual:
                return self.loss(batch)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()
            schedulers = self.lr_schedulers()
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers] if schedulers else []:
                scheduler.step()
            return None

        def configure_optimizers(self) -> Any:
            made = configure(self) if configure else torch.optim.SGD(self.parameters(), lr=0.5)
            first = made[0] if isinstance(made, tuple) else made["optimizer"] if isinstance(made, dict) else made
            for optimizer in first if isinstance(first, list) else [first]:
                optimizer.register_step_pre_hook(lambda one, *_: self.note(one))
            return made

        def note(self, optimizer: Any) -> None:
            keys = ("lr", "momentum", "betas")
            self.seen.append(
                [{key: _plain(group[key]) for key in keys if key in group} for group in optimizer.param_groups]
            )

        def lrs(self, group: int = 0) -> list[float]:
            return [groups[group]["lr"] for groups in self.seen]

    return Tiny()


def silent_logger(flavour: str) -> Any:
    """Return a logger that keeps nothing."""
    return importlib.import_module(f"{flavour}.loggers.logger").DummyLogger()


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, torch.Tensor) else value


def loader(batch: int = 8) -> Any:
    generator = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(EXAMPLES, 3, generator=generator))
    return torch.utils.data.DataLoader(data, batch_size=batch)


def fit(
    flavour: str, module: Any, callback: Any, *, data: Any = None, path: Path | None = None, **settings: Any
) -> Any:
    package = __import__(flavour, fromlist=["Trainer"])
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [callback] if callback is not None else [],
    }
    trainer = package.Trainer(**{**defaults, **settings})
    trainer.fit(module, data if data is not None else loader(), ckpt_path=None if path is None else str(path))
    return trainer


def apply(*arguments: Any, **settings: Any) -> Any:
    from lrscale.callbacks import ApplyRecommendation

    return ApplyRecommendation(*arguments, **settings)


def expected(one: Recommendation, steps: int) -> list[float]:
    return [one.lr_at(step) for step in range(steps)]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_step_has_the_recommended_lr(flavour: str) -> None:
    one, module = recommendation(), make(flavour)
    fit(flavour, module, apply(one))
    assert module.lrs() == pytest.approx(expected(one, 8), rel=1e-12)
    assert module.lrs()[1] == pytest.approx(0.2)


def callbacks_of(flavour: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the callbacks as a process sees them that has imported only one flavour."""
    for name in FLAVOURS:
        if name != flavour:
            monkeypatch.delitem(sys.modules, name, raising=False)
    __import__(flavour)
    spec = importlib.util.find_spec("lrscale.callbacks")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.undo()
    return module


@pytest.mark.parametrize(("own", "other"), [FLAVOURS, FLAVOURS[::-1]])
def test_a_callback_of_one_flavour_runs_in_a_trainer_of_the_other(
    own: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FLAVOURS:
        importlib.import_module(name)
    kind = callbacks_of(own, monkeypatch).ApplyRecommendation
    assert issubclass(kind, importlib.import_module(own).Callback)
    assert not issubclass(kind, importlib.import_module(other).Callback)
    one, module = recommendation(), make(other)
    fit(other, module, kind(one))
    assert module.lrs() == pytest.approx(expected(one, 8), rel=1e-12)


def test_it_is_a_callback_of_every_loaded_flavour() -> None:
    from lrscale.callbacks import _bases

    loaded = [importlib.import_module(name).Callback for name in FLAVOURS]
    assert list(_bases()) == loaded


def test_ratios_between_groups_survive() -> None:
    def configure(module: Any) -> Any:
        return torch.optim.SGD(
            [{"params": module.head.parameters()}, {"params": module.body.parameters(), "lr": 0.05}], lr=0.5
        )

    one, module = recommendation(), make("pytorch_lightning", configure)
    fit("pytorch_lightning", module, apply(one))
    assert module.lrs(0) == pytest.approx(expected(one, 8), rel=1e-12)
    assert module.lrs(1) == pytest.approx([lr / 10 for lr in expected(one, 8)], rel=1e-12)


def test_the_modules_own_scheduler_is_replaced_and_named() -> None:
    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        return [optimizer], [
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1), "interval": "step"}
        ]

    one, module = recommendation(), make("lightning.pytorch", configure)
    with pytest.warns(UserWarning, match="own StepLR is replaced by the recommended linear"):
        fit("lightning.pytorch", module, apply(one))
    assert module.lrs() == pytest.approx(expected(one, 8), rel=1e-12)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_modules_and_monitors_see_the_recommended_lr(interval: str) -> None:
    from lightning.pytorch.callbacks import LearningRateMonitor

    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
        return [optimizer], [{"scheduler": schedule, "interval": interval}]

    asked: list[float] = []

    class Watch(LearningRateMonitor):
        def on_train_batch_start(self, trainer: Any, *arguments: Any, **settings: Any) -> None:
            asked.append(trainer.lightning_module.lr_schedulers().get_last_lr()[0])
            super().on_train_batch_start(trainer, *arguments, **settings)
            logged.append(float(trainer.callback_metrics["lr-SGD"]))

    logged: list[float] = []
    one, module = recommendation(steps=16), make("lightning.pytorch", configure)
    with pytest.warns(UserWarning, match="StepLR is replaced"):
        fit(
            "lightning.pytorch",
            module,
            None,
            callbacks=[apply(one), Watch()],
            logger=silent_logger("lightning.pytorch"),
            log_every_n_steps=1,
            max_epochs=2,
        )
    assert module.lrs() == pytest.approx(expected(one, 16), rel=1e-12)
    assert asked == pytest.approx(expected(one, 16), rel=1e-12)
    assert logged == pytest.approx(expected(one, 16), rel=1e-6)


def test_a_plateau_scheduler_is_replaced_without_its_metric() -> None:
    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
                "monitor": "never_logged",
            },
        }

    one, module = recommendation(), make("pytorch_lightning", configure)
    with pytest.warns(UserWarning, match="ReduceLROnPlateau is replaced"):
        fit("pytorch_lightning", module, apply(one))
    assert module.lrs() == pytest.approx(expected(one, 8), rel=1e-12)


def test_the_reference_is_the_peak_of_a_one_cycle_scheduler() -> None:
    def configure(module: Any) -> Any:
        groups = [{"params": module.head.parameters()}, {"params": module.body.parameters()}]
        optimizer = torch.optim.SGD(groups, lr=1e-9, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.4, 0.1], total_steps=8)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    one, module = recommendation(), make("pytorch_lightning", configure)
    with pytest.warns(UserWarning, match="OneCycleLR is replaced"):
        fit("pytorch_lightning", module, apply(one))
    assert module.lrs(0) == pytest.approx(expected(one, 8), rel=1e-12)
    assert module.lrs(1) == pytest.approx([lr / 4 for lr in expected(one, 8)], rel=1e-12)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_one_cycle_moves_lr_and_momentum_as_torch_does(optimizer: str) -> None:
    settings = {"momentum": 0.9} if optimizer == "SGD" else {}
    one = recommendation(schedule=RecommendedSchedule(name="one_cycle"))
    module = make(
        "pytorch_lightning", lambda made: getattr(torch.optim, optimizer)(made.parameters(), lr=0.5, **settings)
    )
    fit("pytorch_lightning", module, apply(one))
    twin = getattr(torch.optim, optimizer)([torch.nn.Parameter(torch.zeros(1))], lr=0.2, **settings)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(twin, max_lr=0.2, total_steps=8)
    for groups in module.seen:
        group, other = groups[0], twin.param_groups[0]
        assert group["lr"] == pytest.approx(other["lr"], rel=1e-9)
        key = "momentum" if optimizer == "SGD" else "betas"
        assert group[key] == pytest.approx(other[key], rel=1e-9)
        twin.step()
        if scheduler.last_epoch < 7:
            scheduler.step()


def test_the_lr_holds_while_gradients_accumulate() -> None:
    one = recommendation(steps=4, batch=16, per_device_batch_size=8, accumulate_grad_batches=2)
    module = make("pytorch_lightning")
    fit("pytorch_lightning", module, apply(one), accumulate_grad_batches=2)
    assert module.lrs() == pytest.approx(expected(one, 4), rel=1e-12)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_resumed_job_goes_on_where_it_stopped(flavour: str, tmp_path: Path) -> None:
    one = recommendation(steps=16)

    def configure(module: Any) -> Any:
        return torch.optim.SGD(
            [{"params": module.head.parameters()}, {"params": module.body.parameters(), "lr": 0.05}], lr=0.5
        )

    whole = make(flavour, configure)
    torch.manual_seed(1)
    fit(flavour, whole, apply(one), max_epochs=2)
    first = make(flavour, configure)
    # The horizon is the whole job's: the first half is told, as a job that is cut off by its time limit would know.
    trainer = fit(flavour, first, apply(one, horizon_steps=16), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = make(flavour, configure)
    fit(flavour, second, apply(one), max_epochs=2, path=tmp_path / "half.ckpt")
    for group in (0, 1):
        assert first.lrs(group) + second.lrs(group) == pytest.approx(whole.lrs(group), rel=1e-12)
    assert len(second.seen) == 8


def test_a_finished_schedule_leaves_ratios_that_a_resumed_job_can_use(tmp_path: Path) -> None:
    one = recommendation(schedule=RecommendedSchedule(name="wsd", settings={"decay_fraction": 1.0}))
    module = make("pytorch_lightning")
    trainer = fit("pytorch_lightning", module, apply(one))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    more = make("pytorch_lightning")
    fit("pytorch_lightning", more, apply(one, horizon_steps=8), max_epochs=2, path=tmp_path / "end.ckpt")
    assert more.lrs() == pytest.approx([one.lr_at(7)] * 8)


def test_manual_optimization_with_two_optimizers_counts_batches() -> None:
    def configure(module: Any) -> Any:
        first = torch.optim.Adam(module.head.parameters(), lr=0.5)
        second = torch.optim.SGD(module.body.parameters(), lr=0.25)
        return [first, second], [torch.optim.lr_scheduler.StepLR(first, 1, gamma=0.1)]

    one, module = recommendation(), make("lightning.pytorch", configure, manual=True)
    with pytest.warns(UserWarning, match="StepLR is replaced"):
        trainer = fit("lightning.pytorch", module, apply(one))
    assert trainer.global_step == 16
    assert module.lrs()[0::2] == pytest.approx(expected(one, 8), rel=1e-12)
    assert module.lrs()[1::2] == pytest.approx([lr / 2 for lr in expected(one, 8)], rel=1e-12)


def test_a_study_of_the_modules_own_schedule_sets_its_height_only() -> None:
    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    one, module = recommendation(schedule=RecommendedSchedule(name="module")), make("pytorch_lightning", configure)
    fit("pytorch_lightning", module, apply(one))
    assert module.lrs() == pytest.approx([0.2 / (step + 1) for step in range(8)])


@pytest.mark.parametrize("told", [0.2, 0.7])
def test_a_module_that_builds_its_schedule_to_the_peak_is_not_raised_above_it(told: float) -> None:
    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=told / 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(10, 1 + 3 * step))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    # The schedule climbs to ten times what the group is made with; the trials, which were told the peak, recorded that.
    one = recommendation(schedule=RecommendedSchedule(name="module", first_group_lr=0.02))
    module = make("pytorch_lightning", configure)
    fit("pytorch_lightning", module, apply(one))
    assert module.lrs()[0] == pytest.approx(0.02)
    assert max(module.lrs()) == pytest.approx(0.2)


def test_the_schedule_runs_over_the_jobs_own_length_and_says_so() -> None:
    one, module = recommendation(steps=8), make("pytorch_lightning")
    with pytest.warns(UserWarning, match="runs for 16 steps, 128 examples, and the recommendation is for 8 steps, 64"):
        fit("pytorch_lightning", module, apply(one), max_epochs=2)
    schedule = one.schedule_for(16)
    assert module.lrs() == pytest.approx([0.2 * schedule.factor(step, 16) for step in range(16)])
    assert module.lrs()[3] == pytest.approx(0.2)


def test_a_job_without_an_end_takes_the_recommended_length() -> None:
    class Endless(torch.utils.data.IterableDataset):  # type: ignore[type-arg]  # torch's generic
        def __iter__(self) -> Iterator[Any]:
            return iter([(torch.ones(3),)] * EXAMPLES)

    one, module = recommendation(), make("pytorch_lightning")
    fit("pytorch_lightning", module, apply(one), data=torch.utils.data.DataLoader(Endless(), batch_size=8))
    assert module.lrs() == pytest.approx(expected(one, 8), rel=1e-12)


def test_another_global_batch_is_named_beside_the_recommended_one() -> None:
    module = make("pytorch_lightning")
    with pytest.warns(UserWarning, match="the job's global batch is 16, and the recommended LR is for 8"):
        fit("pytorch_lightning", module, apply(recommendation(steps=4, horizon_examples=64)), data=loader(16))


def test_a_tensor_lr_is_changed_in_place() -> None:
    module = make(
        "pytorch_lightning",
        lambda made: torch.optim.Adam(made.parameters(), lr=torch.tensor(0.5), foreach=False),
    )
    one = recommendation()
    fit("pytorch_lightning", module, apply(one))
    assert module.lrs() == pytest.approx(expected(one, 8), rel=1e-6)


def test_a_file_and_a_study_folder_are_read(tmp_path: Path) -> None:
    one = recommendation()
    one.save(tmp_path / "recommendation.yaml")
    assert apply(tmp_path).recommendation == one
    assert apply(str(tmp_path / "recommendation.yaml")).recommendation == one
    with pytest.raises(LrscaleError, match="there is no recommendation"):
        apply(tmp_path / "nothing.yaml")
    with pytest.raises(LrscaleError, match="horizon_steps must be at least 1"):
        apply(one, horizon_steps=0)


def test_a_reference_lr_of_zero_is_refused() -> None:
    module = make("pytorch_lightning", lambda made: torch.optim.SGD(made.parameters(), lr=0.0))
    with pytest.raises(LrscaleError, match="LR of the first parameter group is 0"):
        fit("pytorch_lightning", module, apply(recommendation()))


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.filterwarnings("ignore")
def test_the_cli_fragment_runs_behind_a_jobs_own_config(
    flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = f"job_of_{flavour.replace('.', '_')}"
    one = recommendation()
    one.save(tmp_path / "recommendation.yaml")
    (tmp_path / "fragment.yaml").write_text(one.lightning_cli_fragment(str(tmp_path / "recommendation.yaml")))
    (tmp_path / "mine.yaml").write_text(
        f"""\
trainer:
  accelerator: cpu
  devices: 1
  logger: false
  max_epochs: 5
  enable_checkpointing: false
  enable_progress_bar: false
  callbacks:
  - class_path: {flavour}.callbacks.ModelSummary
model:
  class_path: {job}.Net
data:
  class_path: {job}.Data
  init_args: {{batch_size: 8}}
"""
    )
    (tmp_path / f"{job}.py").write_text(
        f"""\
import torch
import {flavour} as pl

class Net(pl.LightningModule):
    def __init__(self, lr: float = 0.5):
        super().__init__()
        self.lr, self.layer, self.seen = lr, torch.nn.Linear(3, 1), []
    def training_step(self, batch, batch_idx):
        self.seen.append(self.optimizers().param_groups[0]["lr"])
        return self.layer(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
        self.batch_size = batch_size
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(64, 3)), self.batch_size)
"""
    )
    import lrscale.callbacks

    # As in a job of this flavour alone: the CLI checks the type of a callback.
    monkeypatch.setattr(
        lrscale.callbacks, "ApplyRecommendation", callbacks_of(flavour, pytest.MonkeyPatch()).ApplyRecommendation
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cli = importlib.import_module(f"{flavour}.cli").LightningCLI(
        args=["fit", "--config", "mine.yaml", "--config", "fragment.yaml"], save_config_callback=None
    )
    kinds = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert "ModelSummary" in kinds
    assert "ApplyRecommendation" in kinds
    assert cli.trainer.max_steps == 8
    assert cli.model.seen == expected(one, 8)
