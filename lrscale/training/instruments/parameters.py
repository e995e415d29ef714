"""What an instrument asks of a Trainer's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def parameter_groups(trainer: Any) -> list[tuple[str, list[Tensor]]]:
    """Return (name, trained parameters) of every parameter group."""
    found: list[tuple[str, list[Tensor]]] = []
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            name = str(group.get("name") or f"group {len(found)}")
            found.append((name, [leaf for leaf in group["params"] if leaf.requires_grad]))
    return found


def trained_parameters(trainer: Any) -> list[tuple[str, int]]:
    """Return (group, identity) of every trained parameter, each once."""
    named: dict[int, str] = {}
    for name, leaves in parameter_groups(trainer):
        for leaf in leaves:
            named.setdefault(id(leaf), name)
    return [(name, identity) for identity, name in named.items()]


def balanced_share(sizes: Sequence[int], rank: int, world_size: int) -> tuple[int, ...]:
    """Return the places that fall to a rank when all are dealt out, the largest first, to whoever has the least.

    Examples
    --------
    >>> [balanced_share([10, 3, 4, 2], rank, 2) for rank in (0, 1)]
    [(0,), (1, 2, 3)]
    """
    loads = [0] * world_size
    dealt: list[list[int]] = [[] for _ in range(world_size)]
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        least = min(range(world_size), key=loads.__getitem__)
        # A tensor costs a call, however small it is.
        loads[least] += sizes[place] + 1
        dealt[least].append(place)
    return tuple(sorted(dealt[rank]))
