"""Modules that tell what they trained on, and that use up the memory of a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lrscale.zoo import DigitsMLP


class Told(DigitsMLP):
    """`DigitsMLP` that writes down where its ranks are and how they talk."""

    def __init__(self, place: str, **others: Any) -> None:
        super().__init__(**others)
        self.place = place

    def on_train_start(self) -> None:
        joined = torch.distributed.is_initialized()
        facts = {
            "device": str(self.device),
            "world_size": self.trainer.world_size,
            "backend": torch.distributed.get_backend() if joined else None,
        }
        Path(self.place, f"rank-{self.global_rank}.json").write_text(json.dumps(facts))


class Hoarder(pl.LightningModule):
    """Keeps `mebibytes` of every example until its backward, or in its validation alone."""

    def __init__(self, mebibytes: int = 1024, place: str = "backward") -> None:
        super().__init__()
        self.mebibytes, self.place, self.lr = mebibytes, place, 0.1
        self.net = torch.nn.Linear(4, 1)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self._loss(batch, self.place == "backward")

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val_loss", self._loss(batch, self.place == "validation"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def _loss(self, batch: list[torch.Tensor], hoards: bool) -> torch.Tensor:
        x, y = batch
        if hoards:
            # Last in the backward: what is allocated there does not take a part of the block that this leaves behind,
            # as the workspace of a product would, after which the block is too small for the next step.
            held = torch.ones(len(x), self.mebibytes * 2**18, device=x.device)
            x = x * (held[:, :1] * self.scale)
        return torch.nn.functional.mse_loss(self.net(x), y)


class Points(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8, examples: int = 8192) -> None:
        super().__init__()
        self.batch_size = batch_size
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(examples, 4, generator=generator)
        self.points = TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.points, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*self.points[:1024]), batch_size=self.batch_size)
