"""A multilayer perceptron on the handwritten digits that scikit-learn bundles: trials of about a second."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from lrscale.errors import LrscaleError
from lrscale.zoo.batched import TensorRows, batch_loader

_TRAIN_EXAMPLES = 1437
"""Four fifths of the 1797 examples; the other 360 validate."""

_NOISE_STREAM = 1
"""Tells the random numbers of wrong labels from those of the split."""

_PIXEL_MAX = 16.0
"""Pixels of the data set are counts from 0 to 16."""


@final
class DigitsMLP(pl.LightningModule):
    """Classify 8 x 8 images of digits with ReLU layers of one width.

    Logs ``train_loss`` at every step, and ``val_loss`` (mean cross-entropy in nats) and ``val_accuracy``.

    Parameters
    ----------
    width : int, optional
        Units of each hidden layer, at least 1. Defaults to 64.
    depth : int, optional
        Hidden layers, at least 1. Defaults to 2.
    dropout : float, optional
        Probability in [0, 1) that a hidden unit is dropped in training. Defaults to 0.
    optimizer : {"adamw", "sgd"}, optional
        SGD has momentum 0.9. Defaults to "adamw".
    lr : float, optional
        Learning rate, positive. Defaults to 3e-3.
    weight_decay : float, optional
        At least 0. Defaults to 0.01.

    Examples
    --------
    >>> model = DigitsMLP(width=32)
    >>> model(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.0,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        lr: float = 3e-3,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise LrscaleError(f"DigitsMLP has width {width} and depth {depth}", hint="both are at least 1")
        if optimizer not in ("adamw", "sgd"):
            raise LrscaleError(f"DigitsMLP has no optimizer {optimizer!r}", hint="use adamw or sgd")
        self.save_hyperparameters()
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        layers: list[nn.Module] = []
        for inputs in [64] + [width] * (depth - 1):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.net = nn.Sequential(*layers, nn.Linear(width, 10))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, shape ``(batch, 10)``, of standardised pixels, shape ``(batch, 64)``."""
        logits: Tensor = self.net(pixels)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the batch."""
        pixels, labels = batch
        loss = F.cross_entropy(self(pixels), labels)
        self.log("train_loss", loss, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and accuracy."""
        pixels, labels = batch
        logits = self(pixels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log("val_loss", F.cross_entropy(logits, labels), batch_size=len(labels), sync_dist=True)
        self.log("val_accuracy", accuracy, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer at the module's own, constant learning rate."""
        if self.optimizer == "sgd":
            return SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=self.weight_decay)
        return AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


@final
class Digits(pl.LightningDataModule):
    """The 1797 handwritten digits that scikit-learn bundles, split once into 1437 to train and 360 to validate.

    The images are the test set of Alpaydin and Kaynak 1998 (UCI repository, doi:10.24432/C50P49). Pixels are
    standardised with the mean and the standard deviation of the training split.

    Parameters
    ----------
    batch_size : int, optional
        Examples of one forward on one device, at least 1. Defaults to 64.
    split_seed : int, optional
        Which examples validate. The same for every trial that is compared. Defaults to 0.
    label_noise : float, optional
        Share in [0, 1] of the training examples whose label is drawn anew from all ten; those that validate keep
        theirs. Defaults to 0.

    Examples
    --------
    >>> data = Digits(batch_size=32)
    >>> data.setup("fit")
    >>> pixels, labels = next(iter(data.train_dataloader()))
    >>> pixels.shape, labels.shape
    (torch.Size([32, 64]), torch.Size([32]))
    """

    def __init__(self, batch_size: int = 64, split_seed: int = 0, label_noise: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_noise <= 1:
            raise LrscaleError(f"Digits has label_noise {label_noise}", hint="use a share between 0 and 1")
        self.batch_size = batch_size
        self.split_seed = split_seed
        self.label_noise = label_noise
        self.train: TensorRows
        self.validation: TensorRows

    def setup(self, stage: str) -> None:
        """Read, split and standardise the images. `stage` makes no difference."""
        del stage
        table = _read_table()
        order = np.random.default_rng(self.split_seed).permutation(len(table))
        pixels, labels = table[order, :-1] / _PIXEL_MAX, table[order, -1]
        rng = np.random.default_rng([self.split_seed, _NOISE_STREAM])
        # The same examples are wrong at a lower share, and more of them at a higher one.
        wrong = np.flatnonzero(rng.random(_TRAIN_EXAMPLES) < self.label_noise)
        labels[wrong] = rng.integers(0, 10, _TRAIN_EXAMPLES)[wrong]
        mean, std = pixels[:_TRAIN_EXAMPLES].mean(), pixels[:_TRAIN_EXAMPLES].std()
        inputs = torch.from_numpy((pixels - mean) / std).float()
        targets = torch.from_numpy(labels).long()
        self.train = TensorRows(inputs[:_TRAIN_EXAMPLES], targets[:_TRAIN_EXAMPLES])
        self.validation = TensorRows(inputs[_TRAIN_EXAMPLES:], targets[_TRAIN_EXAMPLES:])

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training split, shuffled."""
        return batch_loader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation split: one batch, whatever the training batch is."""
        return batch_loader(self.validation, batch_size=len(self.validation))


def _read_table() -> NDArray[np.float64]:
    # `sklearn.datasets` takes about a second to import, which every rank of every trial would pay; the file that its
    # `load_digits` reads takes 30 ms. Finding the spec of a top-level package does not import it.
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
