"""A module that keeps state wherever a module can, for trials that branch off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

EXAMPLES, FEATURES = 52, 6


class Jittered(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Examples that are drawn from the process's generator anew each time, as augmentation does."""

    def __init__(self, jitter: float) -> None:
        generator = torch.Generator().manual_seed(3)
        self.inputs = torch.randn(EXAMPLES, FEATURES, generator=generator)
        self.targets = self.inputs @ torch.linspace(-1, 1, FEATURES) + 0.3 * torch.randn(EXAMPLES, generator=generator)
        self.jitter = jitter

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        noise = self.jitter * torch.randn(FEATURES) if self.jitter else 0.0
        return self.inputs[index] + noise, self.targets[index], torch.tensor(index)


class Rows(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8, jitter: float = 0.1) -> None:
        super().__init__()
        self.batch_size, self.jitter = batch_size, jitter

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Jittered(self.jitter), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Jittered(0.0), batch_size=13)


class Stateful(pl.LightningModule):
    """Dropout, batch norm, an average of the weights that is no buffer, and a rate that follows the global step."""

    def __init__(self, lr: float = 0.01, optimizer: str = "adamw", dropout: float = 0.3, record: str = "") -> None:
        super().__init__()
        self.lr, self.optimizer, self.record, self.drops = lr, optimizer, record, dropout > 0
        norm: nn.Module = nn.BatchNorm1d(8) if dropout else nn.Identity()
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), norm, nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.average = torch.zeros(8, FEATURES)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets, numbers = batch
        if self.record:
            place = {"ids": numbers.tolist(), "step": int(self.global_step), "epoch": self.current_epoch}
            with (Path(self.record) / f"seen-{self.trainer.global_rank}.jsonl").open("a") as stream:
                stream.write(json.dumps({**place, "index": batch_idx}) + "\n")
        loss = ((self.net(inputs).squeeze(1) - targets) ** 2).mean()
        if not self.drops:
            return loss
        # What the layout decides, such as the number of a forward, belongs to trials of one layout.
        return loss * (1 + 0.01 * (self.global_step % 5) + 0.001 * self.current_epoch + 0.01 * (batch_idx % 2))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.average = 0.9 * self.average.to(self.device) + 0.1 * self.net[0].weight.detach()

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets, _ = batch
        # The average moves with every forward, whose number the layout decides.
        drift = float(self.drops) * (self.net[0].weight - self.average.to(self.device)).square().mean()
        self.log("val_loss", ((self.net(inputs).squeeze(1) - targets) ** 2).mean() + drift, batch_size=len(inputs))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["average"] = self.average

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.average = checkpoint["average"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return torch.optim.AdamW(self.parameters(), lr=self.lr)
