"""A few numbers that stand for a gradient, so that gradients of other processes can be compared with it."""

from __future__ import annotations

import zlib
from typing import final

import torch
from torch import Tensor

BUCKETS = 64
"""Numbers of a sketch. The squared norm of a difference is met with a relative standard deviation of at most
sqrt(2 / 64), 18 %."""
_PERIOD = 1 << 20
"""Elements after which the signs of a tensor repeat: one million signs take a megabyte, whatever the tensor."""


@final
class GradientSketcher:
    """Sketches gradients of named parameters: elements with random signs, summed into `BUCKETS` numbers.

    A count sketch (Charikar, Chen and Farach-Colton 2002): linear, so that the sketch of a mean is the mean of the
    sketches, and its squared norm is unbiased. Signs follow from the parameter's name alone, so that every process, of
    every layout, makes the same sketch of the same gradient.

    Examples
    --------
    >>> sketcher, gradient = GradientSketcher(), torch.arange(6.0).reshape(2, 3)
    >>> float(sketcher.sketch("net.weight", gradient).square().sum()) == float(gradient.square().sum())
    True
    """

    def __init__(self) -> None:
        self._signs: dict[str, Tensor] = {}

    def sketch(self, name: str, gradient: Tensor) -> Tensor:
        """Return the sketch of a parameter's gradient, shape (64,), in double precision where the device has it."""
        if gradient.is_sparse:
            gradient = gradient.to_dense()
        flat = gradient.detach().reshape(-1)
        wide = torch.float32 if flat.device.type == "mps" else torch.float64
        total = torch.zeros(BUCKETS, dtype=wide, device=flat.device)
        if flat.numel() == 0:
            return total
        signs = self._signs_of(name, flat)
        for start in range(0, flat.numel(), _PERIOD):
            piece = flat[start : start + _PERIOD]
            # A product in half precision would round what single precision keeps.
            signed = (piece.float() if piece.element_size() < 4 else piece) * signs[: len(piece)]
            whole = signed.numel() // BUCKETS * BUCKETS
            total += signed[:whole].reshape(-1, BUCKETS).sum(0, dtype=wide)
            total[: signed.numel() - whole] += signed[whole:]
        # Small tensors would all lie in the first buckets.
        return total.roll(zlib.crc32(name.encode()) % BUCKETS)

    def _signs_of(self, name: str, flat: Tensor) -> Tensor:
        if name not in self._signs:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            drawn = torch.randint(0, 2, (min(flat.numel(), _PERIOD),), generator=generator, dtype=torch.int8)
            self._signs[name] = (2 * drawn - 1).to(flat.device)
        return self._signs[name]


def folded(sketch: Tensor, width: int) -> Tensor:
    """Return a sketch of `width` numbers, a power of two up to 64, made of a longer one.

    Examples
    --------
    >>> folded(torch.arange(64.0), 2)
    tensor([ 992., 1024.])
    """
    return sketch.reshape(-1, width).sum(0)
