"""Data as strangers keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import pytorch_lightning
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

FEATURES, CLASSES, EXAMPLES = 4, 3, 96


def blobs(seed: int = 0, size: int = EXAMPLES) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    centres = torch.tensor([[2.0, 0, 0, 1], [0, 2.0, 0, -1], [0, 0, 2.0, 0]])
    return TensorDataset(centres[labels] + torch.randn(size, FEATURES, generator=generator), labels)


class Blobs(pl.LightningDataModule):
    """A data module as a tutorial has it."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(blobs(), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(blobs(seed=1), batch_size=self.batch_size)


class OldBlobs(pytorch_lightning.LightningDataModule):
    """The same under the other import, the batch size in its hyperparameters."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return DataLoader(blobs(), batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(blobs(seed=1), batch_size=self.hparams.batch_size)


class HardCoded(Blobs):
    """Keeps its batch size in nothing but the call."""

    def __init__(self) -> None:
        super().__init__()
        del self.batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(blobs(), batch_size=10, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(blobs(seed=1), batch_size=48)


class Stream(IterableDataset[Any]):
    """Examples one after another; its length is not known."""

    def __init__(self, size: int, by_rank: bool) -> None:
        self.size, self.by_rank = size, by_rank

    def __iter__(self) -> Iterator[Any]:
        examples = list(blobs(size=self.size))
        if self.by_rank and torch.distributed.is_initialized():
            examples = examples[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        yield from examples


class Streamed(Blobs):
    """Trains on a stream."""

    def __init__(self, batch_size: int = 16, size: int = 50, by_rank: bool = True) -> None:
        super().__init__(batch_size)
        self.size, self.by_rank = size, by_rank

    def train_dataloader(self) -> Any:
        return DataLoader(Stream(self.size, self.by_rank), batch_size=self.batch_size)


class OwnLoader:
    """Not a DataLoader: no length, no data set."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Any]:
        inputs, labels = blobs().tensors
        for start in range(0, len(inputs) - self.size + 1, self.size):
            yield inputs[start : start + self.size], labels[start : start + self.size]


class WithOwnLoader(Blobs):
    """Brings a loader of its own."""

    def train_dataloader(self) -> Any:
        return OwnLoader(self.batch_size)


class Decoy(Blobs):
    """Has a `batch_size` that changes nothing; `windows` is the effective one."""

    def __init__(self, batch_size: int = 32, windows: int = 8) -> None:
        super().__init__(batch_size)
        self.windows = windows

    def train_dataloader(self) -> Any:
        return OwnLoader(self.windows)


class InKwargs(Blobs):
    """Keeps its batch sizes in dictionaries, a list of them."""

    def __init__(self) -> None:
        super().__init__()
        del self.batch_size
        self.splits = [{"size": 24}, {"size": 48}]

    def train_dataloader(self) -> Any:
        return OwnLoader(self.splits[0]["size"])

    def val_dataloader(self) -> Any:
        return DataLoader(blobs(seed=1), batch_size=self.splits[1]["size"])


class Cached(Blobs):
    """Gives the same loader at every call."""

    def train_dataloader(self) -> Any:
        if not hasattr(self, "loader"):
            self.loader = super().train_dataloader()
        return self.loader


class Buckets(Sampler[list[int]]):
    """Random batches, drawn from the global generator."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def __len__(self) -> int:
        return EXAMPLES // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(EXAMPLES).tolist()
        for start in range(0, EXAMPLES, self.batch_size):
            yield order[start : start + self.batch_size]


class Bucketed(Blobs):
    """Brings a batch sampler; the loader's own batch size is None."""

    def train_dataloader(self) -> Any:
        numbered = TensorDataset(*blobs().tensors, torch.arange(EXAMPLES))
        return DataLoader(numbered, batch_sampler=Buckets(self.batch_size))


class Weighted(Blobs):
    """Draws examples by weight, with replacement."""

    def train_dataloader(self) -> Any:
        weights = torch.linspace(0.1, 1, EXAMPLES)
        return DataLoader(blobs(), batch_size=self.batch_size, sampler=WeightedRandomSampler(weights, EXAMPLES))


class SplitByHand(Blobs):
    """Divides its data among the ranks itself."""

    def train_dataloader(self) -> Any:
        sampler = DistributedSampler(blobs()) if torch.distributed.is_initialized() else RandomSampler(blobs())
        return DataLoader(blobs(), batch_size=self.batch_size, sampler=sampler)

    def val_dataloader(self) -> Any:
        held = blobs(seed=1)
        divided = torch.distributed.is_initialized()
        sampler = DistributedSampler(held, shuffle=False) if divided else SequentialSampler(held)
        return DataLoader(held, batch_size=self.batch_size, sampler=sampler)


class InLists(Blobs):
    """Several loaders at once, in a list."""

    def train_dataloader(self) -> Any:
        return [
            DataLoader(blobs(), batch_size=self.batch_size, shuffle=True),
            DataLoader(blobs(2, 400), batch_size=4 * self.batch_size, shuffle=True),
        ]

    def val_dataloader(self) -> Any:
        return [DataLoader(blobs(seed=1), batch_size=32), DataLoader(blobs(seed=3), batch_size=32)]


class InDicts(Blobs):
    """Several loaders at once, by name; the sizes are in the calls."""

    def train_dataloader(self) -> Any:
        return {
            "labelled": DataLoader(blobs(), batch_size=6, shuffle=True),
            "free": DataLoader(blobs(2, 400), batch_size=24, shuffle=True),
        }


class LastBatchOfOne(Blobs):
    """Leaves one example over."""

    def train_dataloader(self) -> Any:
        return DataLoader(blobs(size=4 * self.batch_size + 1), batch_size=self.batch_size, shuffle=True)


class Workers(Blobs):
    """Loads in worker processes that stay."""

    def train_dataloader(self) -> Any:
        return DataLoader(blobs(), batch_size=self.batch_size, shuffle=True, num_workers=1, persistent_workers=True)


class Batched(Blobs):
    """Batches of its own, by a sampler of batches as the loader's sampler."""

    def train_dataloader(self) -> Any:
        batches = BatchSampler(RandomSampler(blobs()), self.batch_size, drop_last=True)
        return DataLoader(blobs(), sampler=batches, batch_size=None)
