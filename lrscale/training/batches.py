"""What is inside a batch, whatever it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

HASHED_BYTES = 1 << 16
"""Bytes of each tensor that are hashed; enough to tell two batches apart."""
DEEPEST = 6
"""Levels of nesting that are looked into; graph batches keep tensors three levels down."""


def tensors_of(batch: Any) -> list[torch.Tensor]:
    """Return the dense tensors in a batch, through lists, mappings and objects with attributes.

    Examples
    --------
    >>> [tuple(tensor.shape) for tensor in tensors_of({"x": torch.zeros(4, 2), "y": [torch.zeros(4)]})]
    [(4, 2), (4,)]
    """
    return list(_walk(batch, DEEPEST, set()))


def hash_batch(batch: Any) -> int:
    """Return a 62-bit hash of the beginning of every tensor of a batch; 0 for a batch without tensors."""
    digest, tensors = hashlib.blake2b(digest_size=8), tensors_of(batch)
    if not tensors:
        return 0
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        most = max(1, HASHED_BYTES // max(1, flat.element_size()))
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(flat[:most].cpu().contiguous().view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return int.from_bytes(digest.digest(), "big") >> 2


def _walk(value: Any, depth: int, seen: set[int]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided and not value.is_quantized:
            yield value
        return
    # Batches of graph libraries point back at their owners.
    if depth == 0 or id(value) in seen or isinstance(value, (str, bytes, int, float, torch.nn.Module, type)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    for item in inner:
        yield from _walk(item, depth - 1, seen)
