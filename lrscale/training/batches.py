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


def hash_rows(batch: Any) -> tuple[int | None, int | None]:
    """Return the number of examples of a batch, and a hash that batches of the same examples share in any order.

    The hashes of the examples are added modulo 2**62, so that the sum over micro-batches is the hash of the whole.
    Both are None where the tensors do not have one first dimension in common, as in batches of graphs.

    Examples
    --------
    >>> batch = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> whole, parts = hash_rows(batch), [hash_rows(batch[2:]), hash_rows(batch[:2])]
    >>> whole[0], whole[1] == sum(part[1] for part in parts) % 2**62
    (3, True)
    """
    tensors = [tensor.detach() for tensor in tensors_of(batch) if tensor.ndim > 0]
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1:
        return None, None
    (examples,) = lengths
    flat = [tensor.reshape(examples, -1)[:, :HASHED_BYTES].cpu().contiguous() for tensor in tensors]
    rows = [one.view(torch.uint8).numpy() if one.numel() else None for one in flat]
    total = 0
    for example in range(examples):
        digest = hashlib.blake2b(digest_size=8)
        for row in rows:
            digest.update(b"" if row is None else row[example].tobytes())
        total += int.from_bytes(digest.digest(), "big") >> 2
    return examples, total % 2**62


def row_shapes(batch: Any) -> str:
    """Return the shapes of the tensors of a batch without their first dimensions.

    Examples
    --------
    >>> row_shapes({"tokens": torch.zeros(4, 7), "label": torch.zeros(4)})
    '7,'
    """
    return ",".join("x".join(str(size) for size in tensor.shape[1:]) for tensor in tensors_of(batch))


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
