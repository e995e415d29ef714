"""Which examples a step sees: a function of seed and step alone, whatever the layout."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence, Sized
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from lrscale.errors import LayoutError, TaskError
from lrscale.training.seeding import RandomState, mixed
from lrscale.units import Layout

IndexArray = npt.NDArray[np.int64]


@final
class ExampleOrder:
    """The order of examples in an epoch, equal on every rank.

    Parameters
    ----------
    sampler : Sampler
        The user's; it decides the kind of order.
    dataset : Dataset
        What it draws from.
    seed : int
        With the epoch, it determines the order.
    left_out : frozenset of int, optional
        Indices that are held back for validation.
    """

    def __init__(self, sampler: Any, dataset: Any, seed: int, left_out: frozenset[int] = frozenset()) -> None:
        self._sampler = sampler
        self._dataset_size = len(dataset) if isinstance(dataset, Sized) else 0
        self._seed = seed
        self._epoch = 0
        self._left_out = left_out

    def set_epoch(self, epoch: int) -> None:
        """Take the epoch; Lightning calls this before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        if self._kind != "own":
            return self._dataset_size - len(self._left_out)
        return len(self._sampler) if isinstance(self._sampler, Sized) and not self._left_out else len(self.indices())

    def indices(self) -> IndexArray:
        """Return the examples of this epoch in order."""
        if self._kind == "shuffled":
            order = np.random.default_rng((self._seed, self._epoch)).permutation(self._dataset_size)
        elif self._kind == "sequential":
            order = np.arange(self._dataset_size)
        else:
            order = self._drawn()
        if self._left_out:
            order = order[~np.isin(order, list(self._left_out))]
        return order

    @property
    def _kind(self) -> str:
        sampler = self._sampler
        if type(sampler) is DistributedSampler:
            # The user's own split over ranks: the trial splits the whole set itself.
            return "shuffled" if sampler.shuffle else "sequential"
        if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == self._dataset_size:
            return "shuffled"
        return "sequential" if type(sampler) is SequentialSampler else "own"

    def _drawn(self) -> IndexArray:
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(self._epoch)
        generator = getattr(self._sampler, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(mixed(self._seed, self._epoch))
        with RandomState(mixed(self._seed, self._epoch)).current():
            return np.fromiter((int(index) for index in self._sampler), dtype=np.int64)


@final
class GlobalBatches:
    """One rank's share of every global batch, forward by forward.

    Global batch ``k`` is the ``k``-th run of ``global_batch_size`` examples of the order; its micro-batch ``a`` on rank
    ``r`` is the run number ``a * world_size + r`` of ``per_device_batch_size`` examples in it. A last global batch
    that is not whole is left out.
    """

    def __init__(self, order: ExampleOrder, layout: Layout, rank: int) -> None:
        self.sampler = order
        self.batch_size = layout.per_device_batch_size
        self.drop_last = True
        self._layout = layout
        self._rank = rank

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch."""
        return len(self.sampler) // self._layout.global_batch_size

    def __len__(self) -> int:
        return self.steps_per_epoch * self._layout.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        order = self.sampler.indices()
        size, world = self.batch_size, self._layout.world_size
        for step in range(len(order) // self._layout.global_batch_size):
            for forward in range(self._layout.accumulate):
                start = step * self._layout.global_batch_size + (forward * world + self._rank) * size
                yield np.asarray(order[start : start + size]).tolist()


@final
class DealtBatches:
    """A batch sampler of the user's, its batches dealt to the ranks in turn; rounds that are not whole are left out.

    Lightning sets the epoch through ``sampler``, so this object is its own.
    """

    def __init__(self, batches: Any, layout: Layout, rank: int, seed: int) -> None:
        self._batches = batches
        self._layout = layout
        self._rank = rank
        self._seed = seed
        self._epoch = 0
        self.sampler = self
        self.batch_size = getattr(batches, "batch_size", None)

    def set_epoch(self, epoch: int) -> None:
        """Keep the epoch, and pass it on to the user's samplers."""
        self._epoch = epoch
        for owner in (self._batches, getattr(self._batches, "sampler", None)):
            follow = getattr(owner, "set_epoch", None)
            if follow is not None:
                follow(epoch)

    def __len__(self) -> int:
        whole = self._layout.world_size * self._layout.accumulate
        return len(self._batches) // whole * self._layout.accumulate

    def __iter__(self) -> Iterator[Any]:
        world, whole = self._layout.world_size, self._layout.world_size * self._layout.accumulate
        state = RandomState(mixed(self._seed, self._epoch))
        with state.current():
            batches = iter(self._batches)
        while True:
            with state.current():
                held = list(itertools.islice(batches, whole))
            if len(held) < whole:
                return
            yield from held[self._rank :: world]


@final
class FixedBatches:
    """Batches of given examples in a given order, the last one possibly smaller."""

    def __init__(self, indices: Sequence[int], batch_size: int) -> None:
        self.sampler = list(indices)
        self.batch_size = batch_size
        self.drop_last = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Examples of each batch."""
        return tuple(len(batch) for batch in self)

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.sampler), self.batch_size):
            yield self.sampler[start : start + self.batch_size]


def with_batches(loader: DataLoader[Any], batches: Any) -> DataLoader[Any]:
    """Return a copy of a loader that fetches other batches, everything else as the user made it.

    DataLoader forbids changing these attributes after construction, and building a subclass anew needs arguments that
    it may not have kept; so the copy's dictionary is changed.
    """
    changed = copy.copy(loader)
    changed.__dict__["_iterator"] = None
    if loader.batch_sampler is None:
        # Its sampler draws whole batches, and its data set takes them whole.
        changed.__dict__["sampler"] = batches
        return changed
    changed.__dict__["batch_sampler"] = batches
    changed.__dict__["batch_size"] = getattr(batches, "batch_size", None)
    if not isinstance(batches, (BatchSampler, FixedBatches)):
        # Lightning tells it the epoch.
        changed.__dict__["sampler"] = batches.sampler
    if hasattr(batches, "drop_last"):
        # A stream's worker reads it from the loader.
        changed.__dict__["drop_last"] = batches.drop_last
    return changed


def is_iterable(loader: DataLoader[Any]) -> bool:
    """Whether the loader's data are a stream."""
    return isinstance(loader.dataset, IterableDataset)


def plain_batches(loader: DataLoader[Any]) -> BatchSampler | None:
    """Return what forms the batches, where they are runs of a sampler's indices, so that they can be formed anew."""
    if is_iterable(loader):
        return None
    batches = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return batches if type(batches) is BatchSampler else None


def require_whole_batch(size: int, layout: Layout) -> None:
    """Raise unless an epoch holds at least one global batch."""
    if size < layout.global_batch_size:
        raise TaskError(
            f"global batch {layout.global_batch_size} is larger than the training data: {size} examples",
            hint=f"use batch sizes of at most {size}",
        )


def check_per_device_share(batches: DealtBatches, layout: Layout, home: str) -> None:
    """Raise when a batch sampler's own size is known and is not the one that was asked for."""
    size = batches.batch_size
    if isinstance(size, int) and size != layout.per_device_batch_size:
        raise LayoutError(
            f"the batch sampler forms batches of {size}, not of {layout.per_device_batch_size}"
            + (f", although {home} was set" if home else ""),
            hint="name where its batch size lives in task.batch_size",
        )
