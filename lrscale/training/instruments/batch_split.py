"""Gradients of parts of a batch, computed beside training: one more forward and backward, which leaves no trace."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrscale.training.flavour import flavour_of
from lrscale.training.monitor import loss_of

_INTERNAL = frozenset(torch.nn.Module().__dict__)
"""What torch keeps in every module; buffers are kept one by one."""
_BUFFER = "buffer "


class CannotSplitError(Exception):
    """A batch or a module whose gradients cannot be had part by part; the message says why."""


def split_batch(batch: Any, parts: int, examples: float | None = None) -> list[tuple[Any, float]]:
    """Return a batch cut into parts along the first dimension of its tensors, each with its share of the examples.

    Parameters
    ----------
    batch : tensor, array, number, str, None, or tuples, lists and mappings of them
        Numbers, strings and None go to every part as they are.
    parts : int
        Wanted; at most as many as there are examples.
    examples : float or None, optional
        How many examples there must be, where that is known. Default None.

    Raises
    ------
    CannotSplitError
        When the tensors have different first dimensions, or another one than there are examples, when there are fewer
        than two examples, or when something else is in it.

    Examples
    --------
    >>> split_batch({"x": torch.arange(3), "name": "a"}, 2)
    [({'x': tensor([0, 1]), 'name': 'a'}, 0.666...), ({'x': tensor([2]), 'name': 'a'}, 0.333...)]
    """
    lengths: set[int] = set()
    _collect_lengths(batch, lengths)
    if len(lengths) != 1:
        raise CannotSplitError(f"the tensors of a batch have first dimensions {sorted(lengths)}, not one of them")
    (length,) = lengths
    if examples is not None and length != examples:
        raise CannotSplitError(f"the tensors of a batch of {examples:g} examples have a first dimension of {length}")
    if length < 2:
        raise CannotSplitError("a batch of one example cannot be split")
    edges = np.linspace(0, length, min(parts, length) + 1).round().astype(int).tolist()
    # Larger parts first, so that the shapes that a compiled module sees are few.
    sizes = sorted(np.diff(edges).tolist(), reverse=True)
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [(_part(batch, start, start + size), size / length) for start, size in zip(starts, sizes, strict=True)]


def _collect_lengths(value: Any, lengths: set[int]) -> None:
    if isinstance(value, (Tensor, np.ndarray)):
        # A tensor without dimensions is a number.
        lengths.update(value.shape[:1])
    elif isinstance(value, dict):
        for one in value.values():
            _collect_lengths(one, lengths)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _collect_lengths(one, lengths)
    elif value is not None and not isinstance(value, (int, float, str, bytes)):
        raise CannotSplitError(f"a batch that holds a {type(value).__name__} cannot be split")


def _part(value: Any, start: int, end: int) -> Any:
    if isinstance(value, (Tensor, np.ndarray)):
        return value[start:end] if value.ndim else value
    if isinstance(value, dict):
        return type(value)({key: _part(one, start, end) for key, one in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_part(one, start, end) for one in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_part(one, start, end) for one in value)
    return value


def part_gradients(
    trainer: Any, module: Any, parts: list[Any], batch_idx: int, leaves: list[Tensor], loss_scale: float
) -> Iterator[list[Tensor | None]]:
    """Yield the gradients of each part. Call it inside `untouched`.

    ``torch.autograd.grad`` leaves ``grad`` alone. The loss is scaled as the AMP scaler would scale it, and the
    gradients are scaled back.
    """
    count = len(inspect.signature(module.training_step).parameters)
    if count > 2:
        raise CannotSplitError("training_step takes more than a batch and its number")
    for part in parts:
        with torch.enable_grad():
            with trainer.precision_plugin.train_step_context():
                output = module.training_step(*(part, batch_idx)[:count])
            loss = loss_of(output)
            if loss is None:
                raise CannotSplitError("training_step returns no loss")
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss * loss_scale, leaves, allow_unused=True)
        yield [None if gradient is None else gradient.float() / loss_scale for gradient in gradients]


def added(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, where None stands for one that is 0."""
    if total is None or gradient is None:
        return gradient if total is None else total
    return total + gradient


@contextmanager
def untouched(trainer: Any, module: Any) -> Iterator[None]:
    """Undo what forwards do to random state, buffers, metrics, plain attributes, logs and loggers."""
    cuda = [module.device] if module.device.type == "cuda" else []
    python, numpy_state = random.getstate(), np.random.get_state()
    kept = [(part, _keep(part)) for part in module.modules()]
    loggers = trainer.loggers
    names = ("log", "log_dict", "print")
    try:
        with torch.random.fork_rng(devices=cuda):
            for name in names:
                module.__dict__[name] = _say_nothing
            if loggers:
                trainer.loggers = [flavour_of(type(module)).get("loggers.logger.DummyLogger")() for _ in loggers]
            yield
    finally:
        trainer.loggers = loggers
        for part, values in kept:
            _restore(part, values)
        random.setstate(python)
        np.random.set_state(numpy_state)


def _say_nothing(*arguments: Any, **settings: Any) -> None:
    del arguments, settings


def _keep(part: torch.nn.Module) -> dict[str, tuple[Any, Any]]:
    """Return name -> (object, copy of its contents) of a module's own attributes and buffers."""
    own = {name: value for name, value in part.__dict__.items() if name not in _INTERNAL}
    buffers = {f"{_BUFFER}{name}": value for name, value in part._buffers.items()}
    return {name: (value, _copy(value)) for name, value in {**own, **buffers}.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        # A tensor that was computed is not written to; it is bound anew.
        return value.detach().clone() if value.grad_fn is None else None
    return value.copy() if type(value) in (list, set, dict) else None


def _restore(part: torch.nn.Module, kept: dict[str, tuple[Any, Any]]) -> None:
    for name in [name for name in part.__dict__ if name not in kept and name not in _INTERNAL]:
        del part.__dict__[name]
    for name, (value, contents) in kept.items():
        if isinstance(value, Tensor) and contents is not None:
            value.data.copy_(contents)
        elif isinstance(value, list) and contents is not None:
            value[:] = contents
        elif contents is not None:
            value.clear()
            value.update(contents)
        if name.startswith(_BUFFER):
            part._buffers[name.removeprefix(_BUFFER)] = value
        else:
            part.__dict__[name] = value
