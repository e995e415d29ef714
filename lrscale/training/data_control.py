"""Takes the place of the user's loaders: the same data, in batches of the size and order that a trial asks for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sized
from typing import Any, final

import numpy as np
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from lrscale.batch_schedules import BatchCourse
from lrscale.errors import LayoutError, TaskError
from lrscale.training.built import BuiltTask
from lrscale.training.course_batches import CourseBatches, StepLayouts
from lrscale.training.data_order import (
    DealtBatches,
    ExampleOrder,
    FixedBatches,
    GlobalBatches,
    check_per_device_share,
    is_iterable,
    plain_batches,
    require_whole_batch,
    with_batches,
)
from lrscale.training.methods import replace_method
from lrscale.units import Layout

HELD_BACK = 0.1
"""Share of the training examples held back for validation where the task has no validation data of its own."""
HELD_BACK_SEED = 20260101
"""Fixed, so that every trial of every study validates on the same held-back examples."""
DEFAULT_VALIDATION_BATCH = 64
"""Used where validation batches follow the training batch size and the task's own size is not known. Validation keeps
no activations for a backward, so this fits wherever a training batch of several times less does."""


@final
class DataControl:
    """Re-forms the loaders of one trial on one rank.

    Parameters
    ----------
    built : BuiltTask
        Its loaders are replaced in place by `install`.
    layout : Layout
        Where the trial runs.
    rank : int
        This process's global rank.
    seed : int
        With the epoch, it determines the order of examples.
    validation_follows : bool, optional
        Whether validation batches grow with the training batches where the task's own do. Default False.
    course : BatchCourse or None, optional
        The steps of a trial whose batch grows or that begins in the middle of the data. Default None: neither.
    base : int or None, optional
        Examples of a base step of the course. Default None: those of the layout.

    Attributes
    ----------
    notes : list of str
        What a reader of the result must know.
    training_examples : int or None
        Examples of one epoch, where that can be known.
    on_validation_known : callable
        Told the examples of each batch of the first validation loader, or None where that cannot be known.
    validation_examples : int or None
        Examples of the first validation loader, where that can be known.
    validation_drops_last : bool
        Whether that loader, as the user made it, leaves a last batch out that is not whole.
    source : {"examples", "batches", "stream", "custom"}
        What could be controlled: the order of examples, the batches of the user's batch sampler, a stream whose order
        is its own, or a loader that is not a DataLoader.
    batches : CourseBatches or None
        What follows the course, once the loader is formed.
    """

    def __init__(
        self,
        built: BuiltTask,
        layout: Layout,
        rank: int,
        seed: int,
        *,
        validation_follows: bool = False,
        course: BatchCourse | None = None,
        base: int | None = None,
    ) -> None:
        self._built = built
        self._layout = self._forward_layout = layout
        self._rank = rank
        self._seed = seed
        self._validation_follows = validation_follows
        self._course = course
        self._base = layout.global_batch_size if base is None else base
        self.batches: CourseBatches | None = None
        self._hold_back = False
        self._train_source: Any = None
        self.notes: list[str] = []
        self.training_examples: int | None = None
        self.on_validation_known: Callable[[tuple[int, ...] | None], object] = lambda sizes: None
        self.validation_examples: int | None = None
        self.validation_drops_last = False
        self.source = "custom"
        self.has_validation = False

    def install(self) -> None:
        """Replace the loaders of the data module, the module or the factory."""
        built = self._built
        overridden = built.flavour.get("utilities.model_helpers.is_overridden")
        can_validate = overridden("validation_step", built.module)
        if built.train_loader is not None:
            has_own = built.val_loader is not None
            self._hold_back = can_validate and not has_own
            self._train_source = built.train_loader
            built.train_loader = self.training(built.train_loader)
            if has_own:
                built.val_loader = self.validation(built.val_loader)
            elif self._hold_back and self.source == "examples":
                built.val_loader = self._held_back_loader()
            self.has_validation = can_validate and built.val_loader is not None
            return
        owner = built.datamodule if built.datamodule is not None else built.module
        if not overridden("train_dataloader", owner):
            raise TaskError(
                f"{type(owner).__name__} has no train_dataloader", hint="name a data module in task.data, or a factory"
            )
        self.has_validation = can_validate
        original = owner.train_dataloader
        if not can_validate:
            replace_method(owner, "train_dataloader", lambda: self.training(original()))
            return
        own_validation = owner.val_dataloader if overridden("val_dataloader", owner) else _nothing

        asked: list[Any] = []

        def train_loader() -> Any:
            # Whether examples must be held back shows only once the data are set up and the hook has been asked.
            try:
                asked[:] = [own_validation()]
            except Exception:  # it may stand on what train_dataloader does; validation asks again and may raise then
                asked.clear()
            self._hold_back = bool(asked) and not _holds_loader(asked[0])
            return self.training(original())

        def val_loader() -> Any:
            own = asked.pop() if asked else own_validation()
            if _holds_loader(own):
                return self.validation(own)
            if self._train_source is None:
                self._train_source = original()
            return self._held_back_loader()

        replace_method(owner, "train_dataloader", train_loader)
        replace_method(owner, "val_dataloader", val_loader, adds=True)

    def training(self, loaders: Any) -> Any:
        """Return training loaders that follow the trial's layout and seed."""
        self._train_source = loaders
        main, asked = _first_loader(loaders), self._layout.per_device_batch_size
        size = None if main is None else _size_of(main)
        own_size = None if size == asked else size
        if own_size and not self._built.batch_size_home:
            self._built.own_batch_size = self._built.own_batch_size or own_size
        if own_size and self._built.batch_size_named:
            # Forecasters draw their windows from the batch of series that a loader gives; the user says that these
            # count, so the loader keeps its size.
            self._forward_layout = dataclasses.replace(self._layout, per_device_batch_size=own_size)
            own_size = None
            self.notes.append(
                f"{self._built.batch_size_home} was set to {asked} and the training loader gives batches of {size} all "
                "the same: it is taken for granted that the module forms its batches from them"
            )
        return _map_loaders(loaders, functools.partial(self._training_loader, main=main, own_size=own_size))

    def validation(self, loaders: Any) -> Any:
        """Return validation loaders whose batches do not depend on the trial's batch size.

        Every rank validates on the whole set: the mean is exact for any number of ranks, whether or not the module
        reduces what it logs.
        """
        own = _first_loader(loaders)
        if own is not None and not is_iterable(own) and isinstance(own.dataset, Sized):
            self.validation_examples, self.validation_drops_last = len(own.dataset), bool(own.drop_last)
        formed = _map_loaders(loaders, self._validation_loader)
        first = _first_loader(formed)
        batches = None if first is None else first.batch_sampler or first.sampler
        self.on_validation_known(batches.sizes if isinstance(batches, FixedBatches) else None)
        return formed

    def _training_loader(self, loader: Any, main: Any, own_size: int | None) -> Any:
        layout = self._forward_layout
        if self._course is not None:
            return self._course_loader(loader, main)
        if not isinstance(loader, DataLoader):
            return self._custom_loader(loader)
        if loader is not main and isinstance(loader.batch_size, int):
            # Loaders beside the first keep their ratio to it, so that "labelled 16, unlabelled 64" stays 1 to 4.
            size = loader.batch_size
            if own_size:
                size = max(1, round(size * self._layout.per_device_batch_size / own_size))
            layout = dataclasses.replace(layout, per_device_batch_size=size)
        if is_iterable(loader):
            return self._stream_loader(loader, layout)
        batches = plain_batches(loader)
        if batches is not None:
            left_out = self._left_out(loader) if self._hold_back else frozenset()
            order = ExampleOrder(batches.sampler, loader.dataset, self._seed, left_out)
            if loader is main:
                self.source, self.training_examples = "examples", len(order)
            require_whole_batch(len(order), layout)
            return with_batches(loader, GlobalBatches(order, layout, self._rank))
        if loader.batch_sampler is None:
            return self._custom_loader(loader)
        self.source = "batches"
        if isinstance(loader.dataset, Sized):
            self.training_examples = len(loader.dataset)
        dealt = DealtBatches(loader.batch_sampler, self._layout, self._rank, self._seed)
        check_per_device_share(dealt, self._layout, self._built.batch_size_home)
        self._require_home("its batch sampler forms the batches")
        return with_batches(loader, dealt)

    def _course_loader(self, loader: Any, main: Any) -> Any:
        batches = plain_batches(loader) if isinstance(loader, DataLoader) else None
        whole = self._forward_layout == self._layout
        if batches is None or loader is not main or not whole:
            raise TaskError(
                f"a batch that grows, and a trial that branches off, need one training loader that draws examples by "
                f"index and forms its batches of them, and {_named(loader)} is none",
                hint="give one DataLoader of a dataset with __len__ and __getitem__, without a batch sampler of its "
                "own; the example at which a stream stands cannot be found again",
            )
        assert self._course is not None
        order = ExampleOrder(
            batches.sampler, loader.dataset, self._seed, self._left_out(loader) if self._hold_back else frozenset()
        )
        self.source, self.training_examples = "examples", len(order)
        layouts = StepLayouts(self._layout, self._base)
        self.batches = CourseBatches(order, self._course, layouts, self._base, self._rank)
        return with_batches(loader, self.batches)

    def _stream_loader(self, loader: DataLoader[Any], layout: Layout) -> DataLoader[Any]:
        self.source = "stream"
        self.notes.append("the training data are a stream: the order of examples is its own, equal seeds or not")
        if loader.batch_size is None:
            self._require_home("the stream forms its own batches")
            return loader
        return with_batches(loader, BatchSampler(loader.sampler, layout.per_device_batch_size, True))

    def _custom_loader(self, loader: Any) -> Any:
        self.source = "custom"
        size = getattr(loader, "batch_size", None)
        if isinstance(size, int) and size != self._layout.per_device_batch_size:
            raise LayoutError(
                f"{type(loader).__name__} forms batches of {size}, not of {self._layout.per_device_batch_size}",
                hint="name where its batch size lives in task.batch_size",
            )
        self._require_home(f"{type(loader).__name__} forms its own batches")
        self.notes.append(
            f"the training data come from a {type(loader).__name__}: lrscale controls neither order nor sharding"
        )
        return loader

    def _require_home(self, why: str) -> None:
        if not self._built.batch_size_home:
            raise TaskError(
                f"the batch size of the training data cannot be set: {why}",
                hint="name where it lives in task.batch_size, or use task.factory",
            )

    def _validation_loader(self, loader: Any) -> Any:
        if not isinstance(loader, DataLoader):
            return loader
        batches = plain_batches(loader)
        own = loader.batch_size if batches is None else batches.batch_size
        if own is None:
            return loader
        asked, told = self._layout.per_device_batch_size, bool(self._built.batch_size_home)
        follows = told and own == asked
        size = (self._built.own_batch_size or DEFAULT_VALIDATION_BATCH) if follows else own
        if self._validation_follows and (follows or (not told and own == self._built.own_batch_size)):
            size = asked
        if is_iterable(loader):
            return with_batches(loader, BatchSampler(loader.sampler, size, False))
        if batches is None:
            return loader
        whole_set = isinstance(batches.sampler, (RandomSampler, DistributedSampler))
        indices = range(_length(loader)) if whole_set else list(batches.sampler)
        return with_batches(loader, FixedBatches(indices, size))

    def _left_out(self, loader: DataLoader[Any]) -> frozenset[int]:
        size = _length(loader)
        count = max(1, round(HELD_BACK * size))
        chosen = np.random.default_rng(HELD_BACK_SEED).permutation(size)[:count]
        return frozenset(int(index) for index in chosen)

    def _held_back_loader(self) -> Any:
        main = _first_loader(self._train_source)
        if main is None or plain_batches(main) is None:
            self.has_validation = False
            return []
        note = f"the task has no validation data: {HELD_BACK:.0%} of the training examples are held back for it"
        if note not in self.notes:
            self.notes.append(note)
        batches = FixedBatches(sorted(self._left_out(main)), self._built.own_batch_size or DEFAULT_VALIDATION_BATCH)
        self.on_validation_known(batches.sizes)
        return with_batches(main, batches)


def _size_of(loader: DataLoader[Any]) -> int | None:
    batches = plain_batches(loader)
    return loader.batch_size if batches is None else batches.batch_size


def _length(loader: DataLoader[Any]) -> int:
    # Only asked of loaders that draw by index, from a map-style set: it has a length, or its sampler had none.
    assert isinstance(loader.dataset, Sized)
    return len(loader.dataset)


def _named(loader: Any) -> str:
    kind, data = type(loader).__name__, getattr(loader, "dataset", None)
    return f"a {kind}" if data is None else f"a {kind} of {type(data).__name__}"


def _nothing() -> None:
    return None


def _holds_loader(loaders: Any) -> bool:
    # A module's `val_dataloader` may return None or an empty list to say that there is none.
    return loaders is not None and not (isinstance(loaders, (list, tuple, dict)) and not loaders)


def _first_loader(loaders: Any) -> DataLoader[Any] | None:
    if isinstance(loaders, DataLoader):
        return loaders
    if hasattr(loaders, "flattened"):
        loaders = list(loaders.flattened)
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        for loader in loaders:
            found = _first_loader(loader)
            if found is not None:
                return found
    return None


def _map_loaders(loaders: Any, change: Callable[[Any], Any]) -> Any:
    if loaders is None:
        return None
    if hasattr(loaders, "flattened"):
        loaders.flattened = [change(loader) for loader in loaders.flattened]
        return loaders
    if isinstance(loaders, dict):
        return {key: _map_loaders(loader, change) for key, loader in loaders.items()}
    if isinstance(loaders, (list, tuple)):
        return [_map_loaders(loader, change) for loader in loaders]
    return change(loaders)
