"""Takes randomness and batch statistics out of a module for a while, to see what depends on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

PARTS = ("dropout", "batch_norm")
"""What can be taken out."""
_DROPOUTS = ("dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")
"""Functions of torch.nn.functional that the layers of the same names call, and modules too."""


@contextmanager
def still(module: nn.Module, parts: tuple[str, ...]) -> Iterator[None]:
    """Take parts of a module out while the context lasts.

    Parameters
    ----------
    module : Module
        Its layers are changed and put back.
    parts : tuple of {"dropout", "batch_norm"}
        ``dropout``: nothing is dropped, in layers, recurrent layers, attention and calls of the functions.
        ``batch_norm``: batch normalisation uses its running statistics, as in evaluation.
    """
    with ExitStack() as undo:
        if "dropout" in parts:
            _without_dropout(module, undo)
        if "batch_norm" in parts:
            for layer in batch_norms(module).values():
                undo.callback(layer.train, layer.training)
                layer.eval()
        yield


def batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that normalise with the statistics of the batch at hand, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or layer.running_mean is None)
    }


def _without_dropout(module: nn.Module, undo: ExitStack) -> None:
    for layer in module.modules():
        # Recurrent layers and attention hand their rate to a kernel.
        if isinstance(layer, (nn.RNNBase, nn.MultiheadAttention)):
            undo.callback(setattr, layer, "dropout", layer.dropout)
            layer.dropout = 0.0
    functional = nn.functional
    for name in _DROPOUTS:
        original = getattr(functional, name)
        undo.callback(setattr, functional, name, original)
        setattr(functional, name, _unchanged(original))
    attention = functional.scaled_dot_product_attention

    @functools.wraps(attention)
    def attend(*args: Any, **kwargs: Any) -> Any:
        # (query, key, value, attn_mask, dropout_p, ...)
        if len(args) > 4:
            args = (*args[:4], 0.0, *args[5:])
        return attention(*args, **({**kwargs, "dropout_p": 0.0} if "dropout_p" in kwargs else kwargs))

    undo.callback(setattr, functional, "scaled_dot_product_attention", attention)
    functional.scaled_dot_product_attention = attend


def _unchanged(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def dropout(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        del args, kwargs
        return input

    return dropout
