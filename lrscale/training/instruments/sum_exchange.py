"""Puts the sums of all ranks together while training goes on: one collective for all that there is to exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrscale.training.instruments.gradient_table import GradientTable

FloatArray = NDArray[np.float64]


@final
class SumExchange:
    """Launches a sum over the ranks, and takes what came of it later, when no rank has to be waited for.

    Every rank launches, and lands, after the same steps.

    Parameters
    ----------
    tables : sequence of GradientTable
        Whose pending steps are exchanged.
    world_size : int
        Ranks that exchange.
    device : torch.device
        That the ranks' process group works on.
    """

    def __init__(self, tables: Sequence[GradientTable], world_size: int, device: torch.device) -> None:
        self._tables = tables
        self._world_size = world_size
        self._device = device
        self._work: Any = None
        self._whole: Tensor | None = None
        self._local: FloatArray | None = None
        self._count = 0
        """Of the totals, which lie before the tables' sums."""
        self._steps: list[list[int]] = []

    @property
    def under_way(self) -> bool:
        """Whether something was launched that has not landed."""
        return self._local is not None

    def launch(self, totals: Sequence[float]) -> None:
        """Take the tables' pending steps, and begin to sum them, and `totals`, over the ranks."""
        packed = [table.pack() for table in self._tables]
        self._steps, self._count = [steps for steps, _ in packed], len(totals)
        self._local = np.concatenate([np.asarray(totals, dtype=np.float64), *(sums.ravel() for _, sums in packed)])
        if self._world_size > 1:
            dtype = torch.float32 if self._device.type == "mps" else torch.float64
            self._whole = torch.from_numpy(self._local).to(self._device, dtype)
            self._work = torch.distributed.all_reduce(self._whole, async_op=True)

    def land(self) -> list[float]:
        """Give the tables what all ranks have, and return the totals of all ranks."""
        if self._local is None:
            raise RuntimeError("nothing was launched")
        if self._whole is None:
            whole = self._local
        else:
            self._work.wait()
            whole = self._whole.cpu().double().numpy()
        at = self._count
        for table, steps in zip(self._tables, self._steps, strict=True):
            end = at + len(steps) * table.columns
            table.extend(steps, whole[at:end].reshape(len(steps), table.columns))
            at = end
        totals: list[float] = whole[: self._count].tolist()
        self._work = self._whole = self._local = None
        self._steps = []
        return totals

    def finish(self) -> None:
        """Exchange everything that there is; every rank is here, or soon will be."""
        if self.under_way:
            self.land()
        if any(len(table) for table in self._tables):
            self.launch(())
            self.land()
