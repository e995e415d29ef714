"""Command-line programs as strangers build them on LightningCLI."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.cli import LightningCLI as OldLightningCLI
from stranger_data import Blobs, OldBlobs
from stranger_modules import Counts, OldSpelling, Plain


class Linked(Plain):
    """Cannot be built without a number that only the program knows, and one that it links from the data."""

    def __init__(self, batch_size: int, total: int = 0, lr: float = 0.05) -> None:
        super().__init__(lr=lr)
        self.total, self.linked = total, batch_size
        assert total == 42
        assert batch_size > 0


class OwnCLI(LightningCLI):
    """Links arguments, fills some in, and adds a callback and an optimizer."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.add_argument("--total", type=int, default=0)
        parser.add_lightning_class_args(EarlyStopping, "stopping")
        parser.set_defaults({"stopping.monitor": "val_loss", "stopping.patience": 1})

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        config["model"]["total"] = config["total"]

    def before_fit(self) -> None:
        raise AssertionError("the subcommand must not run")


def main() -> None:
    """A program of the other spelling, which sees to its own defaults."""
    OldLightningCLI(
        OldSpelling,
        OldBlobs,
        seed_everything_default=1234,
        trainer_defaults={"gradient_clip_val": 0.5, "callbacks": [pytorch_lightning.callbacks.LearningRateMonitor()]},
        save_config_kwargs={"overwrite": True},
    )


def main_without_a_cli() -> None:
    """Builds nothing."""


class FixedCLI(OwnCLI):
    """The same with its classes fixed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Linked, Blobs, *args, **kwargs)


class Optimized(Plain):
    """Leaves its optimizer to the command line."""

    configure_optimizers = pl.LightningModule.configure_optimizers


class OptimizerCLI(LightningCLI):
    """Has the optimizer in the config."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Optimized, Blobs, *args, trainer_defaults={"callbacks": [Counts()]}, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_optimizer_args(torch.optim.AdamW)
        parser.add_lr_scheduler_args(torch.optim.lr_scheduler.ExponentialLR)
