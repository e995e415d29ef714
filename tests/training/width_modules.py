"""A module in the standard and in the maximal update parametrisation."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

BASE = 32
"""Width at which both parametrisations are the same."""
FEATURES = 16
CLASSES = 10


class WidthNet(pl.LightningModule):
    """A perceptron of three layers under Adam.

    In the maximal update parametrisation (Yang et al. 2022, arXiv:2203.03466, table 8) the LR of the hidden and the
    readout matrix falls as 1 / width, and the readout is 0 at first.
    """

    def __init__(self, width: int = BASE, mup: bool = False, lr: float = 1e-2) -> None:
        super().__init__()
        self.lr, self.mup, self.ratio = lr, mup, BASE / width
        self.inputs, self.hidden = nn.Linear(FEATURES, width), nn.Linear(width, width)
        self.readout = nn.Linear(width, CLASSES)
        if mup:
            nn.init.zeros_(self.readout.weight)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        hidden = F.relu(self.hidden(F.relu(self.inputs(batch[0]))))
        return F.cross_entropy(self.readout(hidden), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        matrices = [self.hidden.weight, self.readout.weight]
        others = [parameter for parameter in self.parameters() if all(parameter is not one for one in matrices)]
        scale = self.ratio if self.mup else 1.0
        groups = [{"params": others, "lr": self.lr}, {"params": matrices, "lr": scale * self.lr}]
        return torch.optim.Adam(groups, lr=self.lr)


class WidthData(pl.LightningDataModule):
    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(3)
        inputs = torch.randn(1024, FEATURES, generator=generator)
        labels = (inputs @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(dim=1)
        return DataLoader(TensorDataset(inputs, labels), batch_size=self.batch_size, shuffle=True)
