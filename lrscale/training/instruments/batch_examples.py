"""How many examples a micro-batch holds, without looking at its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final


@final
class BatchExamples:
    """Examples of each forward of this rank.

    Tensor shapes are not asked, because a graph's first dimension is its atoms: the loader's batch size is, and the
    length of its sampler for the last, shorter batch of an epoch.

    Parameters
    ----------
    given : int, callable or None
        Examples of every micro-batch, or a function of the batch. None: ask the loader.
    """

    def __init__(self, given: int | Callable[[Any], int] | None) -> None:
        self._given = given
        self._size: int | None = None
        self._last: tuple[int, int] | None = None

    @property
    def by_loader(self) -> bool:
        """Whether the loader's batches are counted, whose examples are rows."""
        return self._given is None

    def read(self, loader: Any) -> None:
        """Ask the loader of the coming epoch."""
        if self._given is not None:
            return
        sampler: Any = getattr(loader, "sampler", None)
        self._size, self._last = None, None
        for holder in (loader, getattr(loader, "batch_sampler", None), sampler):
            size = getattr(holder, "batch_size", None)
            if isinstance(size, int) and not isinstance(size, bool) and size > 0:
                self._size = size
                break
        try:
            batches, examples = len(loader), len(sampler)
        except (TypeError, NotImplementedError):  # no sampler, or a stream: nobody knows the last batch
            return
        if self._size is not None and holder is not sampler:
            rest = examples - (batches - 1) * self._size
            if 0 < rest < self._size:
                self._last = (batches - 1, rest)

    def of(self, batch: Any, batch_idx: int) -> float | None:
        """Return the examples of a batch, or None where nobody knows."""
        if callable(self._given):
            return float(self._given(batch))
        if self._given is not None:
            return float(self._given)
        if self._last is not None and batch_idx == self._last[0]:
            return float(self._last[1])
        return None if self._size is None else float(self._size)
