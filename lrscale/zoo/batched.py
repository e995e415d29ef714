"""Data sets that hand out a whole batch at once.

The models of the zoo are small: a step that collates examples one by one would spend more time in Python than in
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")


@final
class TensorRows(Dataset[tuple[Tensor, ...]]):
    """Examples that are the rows of tensors in memory.

    Parameters
    ----------
    *tensors : Tensor
        Each of shape ``(n, ...)`` with the same ``n``.

    Examples
    --------
    >>> rows = TensorRows(torch.arange(6).reshape(3, 2), torch.tensor([7, 8, 9]))
    >>> rows.__getitems__([2, 0])
    (tensor([[4, 5],
            [0, 1]]), tensor([9, 7]))
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """Return the batch of these rows: each tensor of shape ``(len(indices), ...)``."""
        rows = torch.as_tensor(indices)
        return tuple(tensor[rows] for tensor in self.tensors)


def already_a_batch(batch: Batch) -> Batch:
    """Collate function of a data set whose ``__getitems__`` returns the batch."""
    return batch


def batch_loader(
    dataset: Dataset[Batch], *, batch_size: int, shuffle: bool = False, num_workers: int = 0
) -> DataLoader[Batch]:
    """Return a loader for a data set that hands out whole batches.

    Parameters
    ----------
    dataset : Dataset
        Has ``__getitems__``, which returns a collated batch.
    batch_size : int
        Examples of one forward on one device, at least 1.
    shuffle : bool, optional
        Draw the examples in random order. Defaults to False.
    num_workers : int, optional
        Worker processes; 0 loads in the training process, which is fastest for data in memory. Defaults to 0.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=already_a_batch,
    )
