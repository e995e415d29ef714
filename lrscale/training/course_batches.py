"""Which examples a step sees where the batch grows, or where a trial begins in the middle of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

import numpy as np

from lrscale.batch_schedules import BatchCourse
from lrscale.errors import TaskError
from lrscale.training.data_order import ExampleOrder, IndexArray
from lrscale.units import Layout, split_global_batch


@final
class StepLayouts:
    """How each batch of a trial is split: over the ranks as its largest one, and as few forwards as that bound allows.

    Parameters
    ----------
    layout : Layout
        Of the largest batch.
    base : int
        Examples of a base step.
    """

    def __init__(self, layout: Layout, base: int) -> None:
        self._layout = layout
        self._base = base
        self._known: dict[int, Layout] = {}

    def of(self, multiple: int) -> Layout:
        """Return the layout of a batch of so many base steps.

        Raises
        ------
        LayoutError
            When the ranks cannot divide it.
        """
        if multiple not in self._known:
            whole = self._layout
            self._known[multiple] = split_global_batch(
                multiple * self._base,
                devices=whole.devices,
                num_nodes=whole.num_nodes,
                max_per_device_batch_size=whole.per_device_batch_size,
            )
        return self._known[multiple]


@final
class CourseBatches:
    """One rank's share of every global batch of a course, forward by forward.

    The examples are those that batches of one base step see, in their order: of each epoch as many whole base steps as
    it holds. A batch that reaches beyond the end of an epoch takes its last examples from the next one, and belongs to
    the epoch in which it begins. Micro-batches lie in a batch as in `GlobalBatches`.

    Parameters
    ----------
    order : ExampleOrder
        Of each epoch.
    course : BatchCourse
        The steps.
    layouts : StepLayouts
        Splits them.
    base : int
        Examples of a base step.
    rank : int
        This process.
    """

    def __init__(self, order: ExampleOrder, course: BatchCourse, layouts: StepLayouts, base: int, rank: int) -> None:
        self._order = order
        self._course = course
        self._layouts = layouts
        self._base = base
        self._rank = rank
        # Lightning tells the epoch to the sampler of a loader.
        self.sampler = self
        self.batch_size = layouts.of(course.largest).per_device_batch_size
        self.drop_last = True
        self.per_epoch = len(order) // base
        if self.per_epoch < 1:
            raise TaskError(
                f"global batch {base} is larger than the training data: {len(order)} examples",
                hint=f"use batch sizes of at most {len(order)}",
            )
        self._epoch = self.first_epoch
        self.before_first: Callable[[], object] = lambda: None
        """Called before the first example of the trial is fetched."""
        self._began = False

    @property
    def first_epoch(self) -> int:
        """Number of the epoch in which the trial begins."""
        return self._course.start // self.per_epoch

    @property
    def epochs(self) -> int:
        """Number of epochs that its examples reach into, those before its beginning included."""
        return -(-self._course.end // self.per_epoch)

    @property
    def begins_epoch(self) -> bool:
        """Whether it begins where an epoch does."""
        return self._course.start % self.per_epoch == 0

    @property
    def forwards_before(self) -> int:
        """Forwards of the first epoch that came before the trial, in batches of one base step."""
        return self._course.start % self.per_epoch * self._layouts.of(1).accumulate

    def set_epoch(self, epoch: int) -> None:
        """Take the epoch; Lightning calls this before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        before = self.forwards_before if self._epoch == self.first_epoch else 0
        return before + sum(self._layouts.of(self._course.multiple(step)).accumulate for step in self._steps())

    def __iter__(self) -> Iterator[list[int]]:
        held: dict[int, IndexArray] = {}
        for step in self._steps():
            layout = self._layouts.of(self._course.multiple(step))
            examples = np.concatenate(
                [
                    self._examples(position, held)
                    for position in range(self._course.edges[step], self._course.edges[step + 1])
                ]
            )
            size, world = layout.per_device_batch_size, layout.world_size
            for forward in range(layout.accumulate):
                start = (forward * world + self._rank) * size
                if not self._began:
                    self._began = True
                    self.before_first()
                yield examples[start : start + size].tolist()

    def begin_again(self) -> None:
        """Have `before_first` called once more: what was fetched before training began is fetched anew."""
        self._began = False

    def _steps(self) -> range:
        first = self._course.first_from(self._epoch * self.per_epoch)
        return range(first, self._course.first_from((self._epoch + 1) * self.per_epoch))

    def _examples(self, position: int, held: dict[int, IndexArray]) -> IndexArray:
        epoch, place = divmod(position, self.per_epoch)
        if epoch not in held:
            held.clear()
            self._order.set_epoch(epoch)
            held[epoch] = self._order.indices()
        found = held[epoch][place * self._base : (place + 1) * self._base]
        if len(found) < self._base:
            raise TaskError(
                f"epoch {epoch} of the training data has {len(held[epoch])} examples, fewer than the first one",
                hint="epochs of one length are needed where a batch grows or a trial branches off",
            )
        return found
