"""Collects the sums of measured steps, of this rank and then of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrscale.laws.noise_scale.gradient_sums import GradientSums

FloatArray = NDArray[np.float64]

HELD = 4096
"""Norms of single tensors that lie on the device one by one before they are put together in one call; on a GPU each of
them takes up to 512 bytes, so that all stay within 2 MiB."""


class MeasuredStep(NamedTuple):
    """What is known of one optimizer step on this rank beside its norms.

    Norms are as autograd had them: scaled by AMP, divided by the accumulation.
    """

    step: int
    examples: tuple[float, ...]
    """Of each backward."""
    places: tuple[tuple[int, ...], ...]
    """Parameters that the norms of each backward are of, then those that the norms of the mean are of.

    The mean is the gradient that the optimizer uses, before clipping. This rank reads a share of it, and the shares of
    all ranks add up. Norms that are not given are 0.
    """
    micro_factor: float | Tensor
    """What the norms of a backward are multiplied by."""
    mean_factor: float | Tensor
    """What those of the mean are multiplied by, for the mean of this rank's number of backwards times the ranks."""


@final
class GradientTable:
    """Rows of (step, n, sum of 1 / b, sums of squares by group), summed over ranks.

    Parameters
    ----------
    groups : sequence of int
        Group of each parameter, from 0 on.
    """

    def __init__(self, groups: Sequence[int]) -> None:
        self._groups = np.asarray(groups)
        self._width = 1 + max(groups)
        self.columns = 2 + 2 * self._width
        """Sums of a step."""
        self._pending: list[MeasuredStep] = []
        self._loose: list[Tensor] = []
        self._together: list[Tensor] = []
        self._rows: list[FloatArray] = []
        self.skipped = 0
        """Steps whose gradients were not finite, which the AMP scaler leaves out too."""

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, step: MeasuredStep, norms: Sequence[Tensor]) -> None:
        """Take a step and its norms, each of shape (), in the order of `MeasuredStep.places`; none is waited for."""
        self._pending.append(step)
        self._loose += norms
        if len(self._loose) >= HELD:
            self._gather()

    def forget(self) -> None:
        """Drop what was not packed."""
        self._pending, self._loose, self._together = [], [], []

    def pack(self) -> tuple[list[int], FloatArray]:
        """Take the pending steps: their numbers, and their sums on this rank, shape (steps, columns)."""
        self._gather()
        steps, together = self._pending, self._together
        self.forget()
        if not steps:
            return [], np.empty((0, self.columns))
        # One transfer for all.
        norms = torch.cat(together).to("cpu", torch.float64).numpy() if together else np.empty(0)
        places = [own for one in steps for own in one.places]
        sizes = [len(own) for own in places]
        cells = np.repeat(np.arange(len(places)) * self._width, sizes)
        cells += self._groups[np.fromiter((place for own in places for place in own), np.intp, norms.size)]
        sums = np.bincount(cells, norms**2, len(places) * self._width).reshape(-1, self._width)
        counts = np.array([len(one.examples) for one in steps])
        ends = np.cumsum(counts + 1)
        mean = sums[ends - 1] * _numbers([one.mean_factor for one in steps])[:, None] ** 2
        sums[ends - 1] = 0
        micro = np.add.reduceat(sums, ends - counts - 1) * _numbers([one.micro_factor for one in steps])[:, None] ** 2
        inverse = np.array([sum(1 / examples for examples in one.examples) for one in steps])
        return [one.step for one in steps], np.column_stack([counts, inverse, micro, mean])

    def extend(self, steps: Sequence[int], whole: FloatArray) -> None:
        """Add steps whose sums are those of all ranks, shape (steps, columns)."""
        if not steps:
            return
        rows = np.column_stack([steps, whole])
        finite = np.isfinite(rows).all(axis=1)
        self.skipped += int(np.sum(~finite))
        self._rows.append(rows[finite])

    def sums(self, group: int | None = None) -> GradientSums | None:
        """Return the steps of one group, or of all parameters, that are known of all ranks; None without any."""
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, 0))
        rows = rows[rows[:, 1] >= 2] if rows.size else rows
        if not rows.size:
            return None
        chosen = slice(None) if group is None else slice(group, group + 1)
        squares = rows[:, 3 : 3 + self._width][:, chosen].sum(axis=1)
        means = rows[:, 3 + self._width :][:, chosen].sum(axis=1)
        count = rows[:, 1]
        return GradientSums(
            step=rows[:, 0],
            count=count,
            examples=count / rows[:, 2],
            mean_square=squares / count,
            square_mean=means,
        )

    def _gather(self) -> None:
        if self._loose:
            self._together.append(torch.stack(self._loose))
            self._loose = []


def _numbers(values: Sequence[float | Tensor]) -> FloatArray:
    # A scale of the AMP scaler is a tensor on the device; all steps of one fit have one or none has.
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) == len(values):
        scales: FloatArray = torch.stack(tensors).to("cpu", torch.float64).numpy().reshape(-1)
        return scales
    return np.array([float(value) for value in values])
