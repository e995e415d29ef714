"""Collects the sums of measured steps on this rank, and puts the ranks' sums together now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrscale.laws.noise_scale.gradient_sums import GradientSums

FloatArray = NDArray[np.float64]


PlacedNorms: TypeAlias = "tuple[tuple[int, ...], Tensor]"
"""Places of parameters, and the norms of their gradients; those of the others are 0."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """One optimizer step on this rank. Norms are as autograd had them: scaled by AMP, divided by the accumulation."""

    step: int
    examples: tuple[float, ...]
    """Of each backward."""
    norms: tuple[PlacedNorms, ...]
    """Of each backward."""
    mean_norms: PlacedNorms
    """Of this rank's share of the gradient that the optimizer uses, before clipping; the shares of all ranks add up."""
    micro_factor: float | Tensor
    """What the norms of a backward are multiplied by."""
    mean_factor: float | Tensor
    """What `mean_norms` are multiplied by, for the mean of this rank's number of backwards times the ranks."""


@final
class GradientTable:
    """Rows of (step, n, sum of 1 / b, sums of squares by group), summed over ranks.

    Parameters
    ----------
    membership : array of shape (parameters, groups)
        1 where a parameter belongs to a group, else 0.
    world_size : int
        Ranks that exchange; every one calls `exchange` after the same steps.
    """

    def __init__(self, membership: FloatArray, world_size: int) -> None:
        self._membership = membership
        self._world_size = world_size
        self._pending: list[MeasuredStep] = []
        self._rows: list[FloatArray] = []
        self.skipped = 0
        """Steps whose gradients were not finite, which the AMP scaler leaves out too."""

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, step: MeasuredStep) -> None:
        """Take a step; nothing is computed or moved off the device yet."""
        self._pending.append(step)

    def forget(self) -> None:
        """Drop what was not exchanged."""
        self._pending = []

    def exchange(self, device: torch.device) -> None:
        """Reduce the steps since the last exchange, over parameters and ranks."""
        steps, self._pending = self._pending, []
        if not steps:
            return
        counts = np.array([len(one.norms) for one in steps])
        # One transfer for all: the steps' norms and factors.
        micro = self._squares([norms for one in steps for norms in one.norms]) @ self._membership
        mean = self._squares([one.mean_norms for one in steps]) @ self._membership
        micro *= np.repeat(_numbers([one.micro_factor for one in steps]) ** 2, counts)[:, None]
        mean *= _numbers([one.mean_factor for one in steps])[:, None] ** 2
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.add.reduceat(micro, starts)
        inverse = np.array([sum(1 / examples for examples in one.examples) for one in steps])
        local = np.column_stack([counts, inverse, sums, mean])
        if self._world_size > 1:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            whole = torch.from_numpy(local).to(device, dtype)
            torch.distributed.all_reduce(whole)
            local = whole.cpu().double().numpy()
        rows = np.column_stack([[one.step for one in steps], local])
        finite = np.isfinite(rows).all(axis=1)
        self.skipped += int(np.sum(~finite))
        self._rows.append(rows[finite])

    def sums(self, group: int | None = None) -> GradientSums | None:
        """Return the exchanged steps of one group, or of all parameters; None where there are none."""
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, 0))
        rows = rows[rows[:, 1] >= 2] if rows.size else rows
        if not rows.size:
            return None
        width = self._membership.shape[1]
        chosen = slice(None) if group is None else slice(group, group + 1)
        squares = rows[:, 3 : 3 + width][:, chosen].sum(axis=1)
        means = rows[:, 3 + width :][:, chosen].sum(axis=1)
        count = rows[:, 1]
        return GradientSums(
            step=rows[:, 0],
            count=count,
            examples=count / rows[:, 2],
            mean_square=squares / count,
            square_mean=means,
        )

    def _squares(self, norms: Sequence[PlacedNorms]) -> FloatArray:
        """Return squared norms in the order of the parameters, shape (norms, parameters)."""
        squares = np.zeros((len(norms), len(self._membership)))
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, (places, _) in enumerate(norms):
            rows.setdefault(places, []).append(row)
        # One transfer for all steps whose backward met the parameters in the same order.
        for places, alike in rows.items():
            values = torch.stack([norms[row][1] for row in alike]).to("cpu", torch.float64).numpy()
            squares[np.ix_(alike, places)] = values**2
        return squares


def _numbers(values: Sequence[float | Tensor]) -> FloatArray:
    # A scale of the AMP scaler is a tensor on the device; all steps of one fit have one or none has.
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) == len(values):
        scales: FloatArray = torch.stack(tensors).to("cpu", torch.float64).numpy().reshape(-1)
        return scales
    return np.array([float(value) for value in values])
