"""Modules as strangers write them, each for one line of what is out there."""

from __future__ import annotations

import copy
import functools
import types
from typing import Any

import lightning.pytorch as pl
import pytorch_lightning
import torch
from stranger_data import CLASSES, FEATURES, Blobs, blobs
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

BUILT = 0


class Plain(pl.LightningModule):
    """What a tutorial shows."""

    def __init__(self, lr: float = 0.05, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, CLASSES))

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class OldSpelling(pytorch_lightning.LightningModule):
    """The same under the other import."""

    loss = Plain.loss
    training_step = Plain.training_step
    validation_step = Plain.validation_step
    configure_optimizers = Plain.configure_optimizers

    def __init__(self, lr: float = 0.05, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, CLASSES))


class Adversarial(pl.LightningModule):
    """Two optimizers, stepped by hand; the second one's LR is nobody's argument."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.lr = lr
        self.generator = nn.Linear(2, FEATURES)
        self.critic = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        real = batch[0]
        fake = self.generator(torch.randn(len(real), 2))
        generator_loss = F.softplus(-self.critic(fake)).mean()
        first.zero_grad()
        self.manual_backward(generator_loss)
        first.step()
        critic_loss = F.softplus(self.critic(fake.detach())).mean() + F.softplus(-self.critic(real)).mean()
        second.zero_grad()
        self.manual_backward(critic_loss)
        second.step()
        self.log("train_loss", critic_loss)
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.softplus(-self.critic(batch[0])).mean())

    def configure_optimizers(self) -> Any:
        optimizers = [
            torch.optim.Adam(self.generator.parameters(), lr=self.lr),
            torch.optim.Adam(self.critic.parameters(), lr=4e-3),
        ]
        return optimizers, [torch.optim.lr_scheduler.ExponentialLR(one, 0.9) for one in optimizers]


class LogsItsLR(Plain):
    """Asks its own scheduler for the LR in every step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("lr", self.lr_schedulers().get_last_lr()[0])
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class TwoRates(Plain):
    """Backbone and head, in groups of their own."""

    def configure_optimizers(self) -> Any:
        groups = [
            {"params": self.net[0].parameters(), "lr": self.hparams.lr / 10},
            {"params": self.net[2].parameters(), "lr": self.hparams.lr},
        ]
        return torch.optim.AdamW(groups)


class NestedLR(Plain):
    """Keeps its LR in a dictionary."""

    def __init__(self, optimizer_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.optimizer_kwargs = optimizer_kwargs or {"lr": 0.05, "weight_decay": 0.1}

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), **self.optimizer_kwargs)


class PartialLR(Plain):
    """Keeps its LR in a partial function."""

    def __init__(self) -> None:
        super().__init__()
        self.make = functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=0.0)

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class TiedLR(Plain):
    """Initial, highest and last LR, as three arguments that belong together."""

    def __init__(self, initial_lr: float = 1e-3, max_lr: float = 1e-2, final_lr: float = 1e-4) -> None:
        super().__init__()
        self.initial_lr, self.max_lr, self.final_lr = initial_lr, max_lr, final_lr

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.initial_lr)
        total = self.trainer.max_epochs * len(self.trainer.datamodule.train_dataloader())
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.max_lr,
            total_steps=total,
            div_factor=self.max_lr / self.initial_lr,
            final_div_factor=self.initial_lr / self.final_lr,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Normalised(Plain):
    """Normalises over the batch."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr=lr)
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))


class LogLikelihood(Plain):
    """A negative log-likelihood that falls below zero."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.log_scale = nn.Parameter(torch.zeros(FEATURES))

    def loss(self, batch: Any) -> Tensor:
        scale = self.log_scale.exp()
        return -torch.distributions.Normal(0.0, scale, validate_args=True).log_prob(batch[0] / 50).sum(-1).mean()


class Unbounded(Plain):
    """Its distribution refuses what a large LR makes of its parameters, with a ValueError."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.scale = nn.Parameter(torch.full((FEATURES,), 5.0))

    def loss(self, batch: Any) -> Tensor:
        likelihood = torch.distributions.Normal(0.0, self.scale, validate_args=True)
        return -20 * likelihood.log_prob(batch[0]).sum(-1).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class ReturnsOnly(Plain):
    """Validates without logging."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch), "extra": [1, 2], "text": "more"}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


class Silent(Plain):
    """Logs nothing and does not validate."""

    validation_step = pl.LightningModule.validation_step


class OtherName(Plain):
    """Logs its validation loss under a name of its own, beside other values."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log_dict({"ptl/val_loss": loss, "ptl/val_accuracy": 1 - loss, "regulariser_loss": loss * 2})


class CannotBeCopied(Plain):
    """Holds tensors that a copy would not own, and says so when copied."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("this module cannot be copied")


class CannotBePickled(Plain):
    """Holds a generator and a lambda."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr=lr)
        self.stream = (number for number in range(10**9))
        self.scale = lambda value: value * 1.0

    def loss(self, batch: Any) -> Tensor:
        next(self.stream)
        return self.scale(super().loss(batch))


class OnceOnly(Plain):
    """Cannot be built twice in a process, nor fitted twice."""

    def __init__(self, lr: float = 0.05) -> None:
        global BUILT
        BUILT += 1
        if BUILT > 1:
            raise RuntimeError("the registry has been filled before")
        super().__init__(lr=lr)
        self.fitted = False

    def on_fit_start(self) -> None:
        if self.fitted:
            raise RuntimeError("already fitted")
        self.fitted = True


class WithCallbacks(Plain):
    """Brings callbacks that would end a trial early and write files, and one of its own."""

    def configure_callbacks(self) -> Any:
        return [
            pl.callbacks.EarlyStopping("never_logged", patience=1, strict=True),
            pl.callbacks.ModelCheckpoint(monitor="val_loss"),
            Counts(),
        ]


class Counts(pl.Callback):
    """Must run."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.counted = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        pl_module.counted += 1

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        assert pl_module.counted > 0


class UsesItsLogger(Plain):
    """Draws into a TensorBoard that is not there, and writes beside it."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.logger.experiment.add_scalar("x", 1.0, self.global_step)
        self.logger.experiment.add_histogram("w", self.net[0].weight, self.global_step)
        return self.loss(batch)

    def on_train_epoch_end(self) -> None:
        import pathlib

        for folder in (self.trainer.log_dir, self.logger.save_dir, self.logger.log_dir, self.trainer.default_root_dir):
            (pathlib.Path(folder) / "figure.txt").write_text("drawn")

    def on_validation_epoch_end(self) -> None:
        self.logger.log_metrics({"x": 1.0})


class HoldsItsData(Plain):
    """Has the loaders in the module, and the batch size in its hyperparameters."""

    def __init__(self, lr: float = 0.05, batch_size: int = 8) -> None:
        super().__init__(lr=lr)
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return DataLoader(blobs(), batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return [DataLoader(blobs(seed=1), batch_size=self.hparams.batch_size)]


class SeveralLoaders(Plain):
    """Trains on labelled and unlabelled batches together."""

    def loss(self, batch: Any) -> Tensor:
        if isinstance(batch, (list, tuple)) and not isinstance(batch[0], Tensor):
            assert len(batch[1][0]) == 4 * len(batch[0][0]), (len(batch[1][0]), len(batch[0][0]))
            return super().loss(batch[0]) + 0.1 * self.net(batch[1][0]).square().mean()
        if isinstance(batch, dict):
            assert len(batch["free"][0]) == 4 * len(batch["labelled"][0])
            return super().loss(batch["labelled"]) + 0.1 * self.net(batch["free"][0]).square().mean()
        return super().loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch) * (1 + dataloader_idx))


class UnusedBranch(Plain):
    """Leaves parameters out of the loss, which plain DDP refuses."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr=lr)
        self.unused = nn.Linear(3, 3)


class EpochSchedule(Plain):
    """Plans by epochs: Noam over max_epochs times batches, and steps at the end of each."""

    def configure_optimizers(self) -> Any:
        assert self.trainer.max_epochs > 0
        assert self.trainer.max_steps > 0
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        total = self.trainer.max_epochs
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)]


class KeepsAverage(Plain):
    """Keeps a moving average of its weights, copied from a part of itself."""

    def on_fit_start(self) -> None:
        self.average = copy.deepcopy(self.net)

    def on_train_batch_end(self, *rest: Any) -> None:
        with torch.no_grad():
            for mean, own in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(own, 0.1)


class Doubles(Plain):
    """Forwards keyword arguments to its base, as jsonargparse cannot follow."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


def factory_with_module(lr: float, batch_size: int = 16, seed: int = 0) -> Any:
    return Plain(lr=lr), Blobs(batch_size)


def factory_with_width(lr: float, batch_size: int, seed: int, width: int = 6) -> Any:
    return Plain(lr=lr, width=width), Blobs(batch_size)


def factory_with_loaders(lr: float, batch_size: int, seed: int) -> Any:
    train = DataLoader(blobs(), batch_size=batch_size, shuffle=True)
    return OldSpelling(lr=lr), train, DataLoader(blobs(seed=1), batch_size=32)


def factory_with_train_loader(lr: float, batch_size: int, seed: int) -> Any:
    return Plain(lr=lr), DataLoader(blobs(), batch_size=batch_size, shuffle=True)


def factory_without_seed(lr: float, batch_size: int) -> Any:
    return Plain(lr=lr), Blobs(batch_size)


def factory_of_nonsense(lr: float, batch_size: int, seed: int) -> Any:
    return types.SimpleNamespace(lr=lr)
