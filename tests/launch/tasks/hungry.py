"""A module that runs out of memory above a batch size, on one rank, at one place of its training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bad: bool) -> torch.Tensor:
        ctx.bad = bad
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        if ctx.bad:
            _exhaust()
        return gradient, None


class _Sgd(torch.optim.SGD):
    bad = False

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        if self.bad:
            _exhaust()
        return loss


def _exhaust() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Hungry(pl.LightningModule):
    """A linear fit that exhausts memory at `place` on `rank` when a forward has more than `most` examples."""

    def __init__(self, most: int = 5, place: str = "forward", rank: int = 1) -> None:
        super().__init__()
        self.most, self.place, self.rank = most, place, rank
        self.net = torch.nn.Linear(4, 1)
        self.lr = 0.1

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        if self._is_bad("forward", x):
            _exhaust()
        self._optimizer.bad = self._is_bad("optimizer step", x)
        out = _Backward.apply(self.net(x), self._is_bad("backward", x))
        return torch.nn.functional.mse_loss(out, y)

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        x, y = batch
        if self._is_bad("validation", x):
            _exhaust()
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self._optimizer = _Sgd(self.parameters(), lr=self.lr)
        return self._optimizer

    def _is_bad(self, place: str, x: torch.Tensor) -> bool:
        return self.place == place and self.global_rank == self.rank and len(x) > self.most


class Glutton(Hungry):
    """Keeps a mebibyte of every example until its backward."""

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        wide = torch.ones(len(x), 2**18) * self.net(x)
        return torch.nn.functional.mse_loss((wide * wide).mean(1, keepdim=True), y)


class Points(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8, examples: int = 2048) -> None:
        super().__init__()
        self.batch_size = batch_size
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(examples, 4, generator=generator)
        self.points = TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self) -> DataLoader[list[torch.Tensor]]:
        return DataLoader(self.points, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[list[torch.Tensor]]:
        return DataLoader(self.points, batch_size=self.batch_size)
