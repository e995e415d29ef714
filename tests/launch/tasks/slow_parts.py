"""A module whose step has parts of known length: waiting for data, computing, and waiting for a slow rank."""

from __future__ import annotations

import time

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset


class SlowParts(pl.LightningModule):
    """A linear fit whose forward sleeps `compute` seconds, and `lag` more on rank 1."""

    def __init__(self, compute: float = 0.02, lag: float = 0.0) -> None:
        super().__init__()
        self.compute, self.lag = compute, lag
        self.net = torch.nn.Linear(4, 1)
        self.lr = 0.1

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        time.sleep(self.compute + (self.lag if self.global_rank == 1 else 0.0))
        return torch.nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class _Rows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.x = torch.randn(512, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(self.wait)
        return self.x[index], self.x[index].sum(0, keepdim=True)


class SlowRows(pl.LightningDataModule):
    """Rows that take `wait` seconds each to fetch."""

    def __init__(self, batch_size: int = 4, wait: float = 0.0) -> None:
        super().__init__()
        self.batch_size, self.wait = batch_size, wait

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
        return DataLoader(_Rows(self.wait), batch_size=self.batch_size, shuffle=True)
