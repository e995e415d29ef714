"""Reads gradients when a backward has brought all of them, and before DistributedDataParallel writes over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor

Reading = TypeVar("Reading")


@final
class BackwardEnd(Generic[Reading]):
    """Calls a function at the end of each backward of one micro-gradient.

    When the last gradient arrives DistributedDataParallel queues what writes the averages of the ranks into ``grad``,
    for the end of the graph task that brought it. Reentrant checkpointing runs a backward inside of the backward, whose
    task ends first. So the function is queued by a hook on the parameter whose gradient arrives last: for the same
    task, and before DistributedDataParallel, whose own hook comes later. Which parameter that is, hooks on all of them
    find out in one backward, and again whenever it brought nothing. A hook for each backward on its loss would cost 10
    to 20 us, and end with the outer task.

    Parameters
    ----------
    leaves : sequence of Tensor
        Parameters that the gradients are of.
    read : callable
        Returns what ``grad`` says.
    """

    def __init__(self, leaves: Sequence[Tensor], read: Callable[[], Reading | None]) -> None:
        self._leaves = leaves
        self._read = read
        self._handles: list[Any] = []
        self._looking = False
        self._open = False
        self._readings: dict[int, Reading | None] = {}
        """By graph task; 0 where one parameter alone has a hook."""
        self._last: tuple[int, int] | None = None
        """Place of the parameter whose gradient came last, and its graph task."""

    def open(self) -> None:
        """Read the backward that comes."""
        if not self._handles:
            self.look()
        self._readings, self._last, self._open = {}, None, True

    def take(self) -> Reading | None:
        """Return what was read since `open`; None where no gradient came."""
        readings, last, self._open = self._readings, self._last, False
        if not self._looking:
            found = readings.get(0)
            if found is None:
                self.look()
            return found
        if last is None:
            return None
        self.remove()
        self._handles = [_hook(self._leaves[last[0]], self._arrived)]
        return readings.get(last[1])

    def look(self) -> None:
        """Find out anew which gradient comes last, in the next backward."""
        self.remove()
        self._looking = True
        self._handles = [_hook(leaf, partial(self._seen, place)) for place, leaf in enumerate(self._leaves)]

    def remove(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._looking = [], False

    def _arrived(self, leaf: Tensor) -> None:
        del leaf
        # A module may call a backward of its own within the training step: what is read last stands.
        if self._open:
            _at_end(partial(self._end, 0))

    def _seen(self, place: int, leaf: Tensor) -> None:
        del leaf
        if not self._open:
            return
        task = int(torch._C._current_graph_task_id())
        if self._last is None or self._last[1] != task:
            _at_end(partial(self._end, task))
        self._last = place, task

    def _end(self, task: int) -> None:
        self._readings[task] = self._read()


def _hook(leaf: Tensor, call: Callable[[Tensor], None]) -> Any:
    return leaf.register_post_accumulate_grad_hook(call)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _at_end(call: Callable[[], None]) -> None:
    # FullyShardedDataParallel uses the same function for what it does at the end of a backward.
    torch.autograd.Variable._execution_engine.queue_callback(call)
