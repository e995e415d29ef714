"""Modules and data that depend on the layout, each for one reason, and some that do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

EXAMPLES, FEATURES, CLASSES = 96, 6, 3


def blobs(seed: int = 3, size: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    centres = 2 * torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(1))
    return centres[labels] + torch.randn(size, FEATURES, generator=generator), labels


class Blobs(pl.LightningDataModule):
    """Classes of points; the order of examples is lrscale's."""

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*blobs()), batch_size=self.batch_size, shuffle=True)


class Clean(pl.LightningModule):
    """A classifier whose gradient is a mean over examples."""

    def __init__(self, lr: float = 0.01, optimizer: str = "adamw") -> None:
        super().__init__()
        self.lr, self.optimizer = lr, optimizer
        self.body = self.make_body()
        self.head = nn.Linear(16, CLASSES)

    def make_body(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU())

    def logits(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        del batch_idx
        return self.loss(*batch)

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(inputs), labels)

    def configure_optimizers(self) -> Any:
        groups = [{"params": self.body.parameters()}, {"params": self.head.parameters(), "lr": 0.1 * self.lr}]
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=0.9)
        return torch.optim.AdamW(groups, lr=self.lr)


class SingleLoss(Clean):
    """Sums its loss in single precision."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(inputs).float(), labels)


class Summed(Clean):
    """Sums its loss over the batch."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(inputs), labels, reduction="sum")


class Normalised(Clean):
    """Normalises by the batch."""

    def make_body(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 16))


class SummedNormalised(Normalised):
    """Two reasons at once."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(inputs), labels, reduction="sum")


class FrozenNormalised(Normalised):
    """Has batch normalisation in evaluation mode, which depends on nothing."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        del batch, batch_idx
        self.body[1].eval()


class Masked(Clean):
    """Averages over the entries that are valid, whose number varies from example to example."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(self.logits(inputs), labels, reduction="none")
        valid = torch.floor(1 + 6 * torch.sigmoid(inputs[:, 0]))
        return (valid * losses).sum() / valid.sum()


class Contrastive(Clean):
    """Tells each example from the others of its batch."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        del labels
        first, second = self.logits(inputs), self.logits(inputs.flip(1))
        return nn.functional.cross_entropy(first @ second.T, torch.arange(len(first)))


class Dropping(Clean):
    """Drops units."""

    def make_body(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 16))


class DroppingAttention(Clean):
    """Drops in attention, in a recurrent layer and by a function."""

    def make_body(self) -> nn.Module:
        return Attending()


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(1, 16)
        self.recurrent = nn.GRU(16, 16, num_layers=2, dropout=0.3, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(self.recurrent(self.inner(inputs[..., None]))[0])
        return nn.functional.dropout(hidden.mean(1), 0.2, self.training)


class SummedDropping(Dropping):
    """Drops units and sums its loss."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(inputs), labels, reduction="sum")


class Noisy(Clean):
    """Adds noise of its own, as diffusion models and variational ones do."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return super().loss(inputs + torch.randn_like(inputs), labels)


class NoisySummed(Noisy):
    """Adds noise and sums."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return len(inputs) * super().loss(inputs, labels)


class Unused(Clean):
    """Has a layer that it never calls."""

    def make_body(self) -> nn.Module:
        body = super().make_body()
        self.spare = nn.Linear(4, 4)
        return body

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


class ByRanks(Clean):
    """Multiplies its loss by the number of ranks, as if DDP summed."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return self.trainer.world_size * super().loss(inputs, labels)


class Manual(Clean):
    """Steps two optimizers itself."""

    def __init__(self, lr: float = 0.01, reduction: str = "mean") -> None:
        super().__init__(lr)
        self.automatic_optimization = False
        self.reduction = reduction

    def training_step(self, batch: Any, batch_idx: int) -> None:
        del batch_idx
        inputs, labels = batch
        body, head = self.optimizers()  # type: ignore[misc]  # a list of two
        for optimizer in (body, head):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.logits(inputs), labels, reduction=self.reduction)
            self.toggle_optimizer(optimizer)
            self.manual_backward(loss)
            self.untoggle_optimizer(optimizer)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.body.parameters(), lr=self.lr),
            torch.optim.Adam(self.head.parameters(), lr=self.lr),
        ]


class OwnLoader:
    """Not a DataLoader; every rank reads all of it."""

    def __init__(self, batch_size: int, *, by_rank: bool) -> None:
        self.size, self.by_rank = batch_size, by_rank

    def __iter__(self) -> Iterator[Any]:
        inputs, labels = blobs()
        batches = list(zip(inputs.split(self.size), labels.split(self.size), strict=True))
        if self.by_rank and torch.distributed.is_initialized():
            batches = batches[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        return iter(batches)


class OwnBlobs(Blobs):
    """Brings a loader of its own."""

    def __init__(self, batch_size: int = 8, by_rank: bool = False) -> None:
        super().__init__(batch_size)
        self.by_rank = by_rank

    def train_dataloader(self) -> Any:
        return OwnLoader(self.batch_size, by_rank=self.by_rank)


class Streamed(Blobs):
    """A stream that every rank reads from the start."""

    def train_dataloader(self) -> Any:
        return DataLoader(Stream(), batch_size=self.batch_size)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(*blobs(), strict=True))


class OwnOrder(Blobs):
    """Every rank draws batches of its own from the global generator."""

    def train_dataloader(self) -> Any:
        return Drawn(self.batch_size)


class Drawn:
    def __init__(self, batch_size: int) -> None:
        self.size = batch_size

    def __iter__(self) -> Iterator[Any]:
        inputs, labels = blobs()
        for _ in range(50):
            drawn = torch.randint(0, EXAMPLES, (self.size,))
            yield inputs[drawn], labels[drawn]


class RaggedBuckets(Sampler[list[int]]):
    """Batches of unequal sizes: one example more, one less, in turn."""

    def __init__(self, batch_size: int) -> None:
        self.whole = batch_size

    def __len__(self) -> int:
        return EXAMPLES // self.whole

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, EXAMPLES, 2 * self.whole):
            cut = start + self.whole + self.whole // 2
            yield list(range(start, cut))
            yield list(range(cut, start + 2 * self.whole))


class Ragged(Blobs):
    """Brings a batch sampler whose batches differ in size."""

    def train_dataloader(self) -> Any:
        size = self.batch_size
        sampler: Any = [list(range(start, start + size)) for start in range(0, EXAMPLES, size)]
        if size <= 4:
            sampler = RaggedBuckets(size)
        return DataLoader(TensorDataset(*blobs()), batch_sampler=sampler)


class Augmented(Blobs):
    """Moves every example at random when it is read."""

    def train_dataloader(self) -> Any:
        return DataLoader(Moved(), batch_size=self.batch_size, shuffle=True)


class Moved(Dataset[Any]):
    def __init__(self) -> None:
        self.inputs, self.labels = blobs()

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index] + 0.3 * torch.randn(FEATURES), self.labels[index]


class Broken(Clean):
    """Raises in its first step."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        raise KeyError("no such column")


class Padded(Blobs):
    """Sequences of unequal lengths, padded to the longest of a batch."""

    def train_dataloader(self) -> Any:
        return DataLoader(Sequences(), batch_size=self.batch_size, shuffle=True, collate_fn=padded)


class Sequences(Dataset[Any]):
    def __init__(self) -> None:
        self.inputs, self.labels = blobs()

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> Any:
        length = 1 + index % 7
        return self.inputs[index].expand(length, FEATURES), self.labels[index].expand(length)


def padded(rows: list[Any]) -> Any:
    inputs, labels = zip(*rows, strict=True)
    pad = nn.utils.rnn.pad_sequence
    return pad(list(inputs), batch_first=True), pad(list(labels), batch_first=True, padding_value=-100)


class Tokens(Clean):
    """Averages over the tokens that are not padding."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(inputs).transpose(1, 2), labels)


class TokensByExample(Clean):
    """Averages over the tokens of each example, then over examples, as wants no weights."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(self.logits(inputs).transpose(1, 2), labels, reduction="none")
        valid = labels != -100
        return (losses.sum(1) / valid.sum(1)).mean()
