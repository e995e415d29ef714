"""How large a module is, and how long its examples are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lrscale.training.batches import tensors_of


def parameter_counts(module: nn.Module) -> dict[str, int]:
    """Return the numbers of parameters, of trainable ones, and of those in embeddings; shared ones count once.

    Examples
    --------
    >>> parameter_counts(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)))
    {'parameters': 50, 'trainable_parameters': 50, 'embedding_parameters': 40}
    """
    own = list(module.parameters())
    tables = {
        id(one.weight): one.weight for one in module.modules() if isinstance(one, (nn.Embedding, nn.EmbeddingBag))
    }
    return {
        "parameters": sum(one.numel() for one in own),
        "trainable_parameters": sum(one.numel() for one in own if one.requires_grad),
        "embedding_parameters": sum(one.numel() for one in tables.values()),
    }


def sequence_length(batch: Any) -> int | None:
    """Return the length of the sequences of whole numbers in a batch, such as tokens; None where it has none.

    Examples
    --------
    >>> sequence_length({"input_ids": torch.zeros(8, 32, dtype=torch.long), "loss_weight": torch.ones(8)})
    32
    >>> sequence_length((torch.zeros(8, 64), torch.zeros(8, dtype=torch.long))) is None
    True
    """
    whole = [
        one for one in tensors_of(batch) if one.ndim == 2 and not one.is_floating_point() and one.dtype != torch.bool
    ]
    return max((int(one.shape[1]) for one in whole), default=None)
