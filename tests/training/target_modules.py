"""Modules of a width whose parameters are made at different times, and not always on any device."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Plain(pl.LightningModule):
    """Makes its layers in its constructor: 8 w + w + 2 w + 2 parameters."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.make()

    def make(self) -> None:
        """Make the layers."""
        self.net = nn.Sequential(nn.Linear(8, self.width), nn.ReLU(), nn.Linear(self.width, 2))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Configured(Plain):
    """Makes them in `configure_model`."""

    def make(self) -> None:
        """Make nothing yet."""
        self.net = None  # type: ignore[assignment]

    def configure_model(self) -> None:
        """Make the layers, once."""
        if self.net is None:
            super().make()


class Late(Plain):
    """Makes them when the Trainer sets it up."""

    def make(self) -> None:
        """Make nothing yet."""

    def setup(self, stage: str) -> None:
        """Make the layers."""
        super().make()


class ReadsValues(Plain):
    """Looks at the values of its weights, which the device ``meta`` has none of."""

    def make(self) -> None:
        """Make the layers and read one number."""
        super().make()
        self.first = float(self.net[0].weight.abs().sum())


class Broken(Plain):
    """Refuses widths above 100."""

    def make(self) -> None:
        """Raise for a large width."""
        if self.width > 100:
            raise ValueError("width above 100")
        super().make()


class Points(pl.LightningDataModule):
    """Sixteen examples."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return them."""
        return DataLoader(
            TensorDataset(torch.randn(16, 8), torch.zeros(16, dtype=torch.long)), batch_size=self.batch_size
        )
