"""What live objects hold, kept so that it can be put back to the bit, however often."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lrscale.errors import LrscaleError

DEEPEST = 12
"""Levels of nesting that are looked into."""
LARGE = 10_000
"""Entries from which a container is kept as it is, without a look into each."""
_OUTSIDE = frozenset({"_trainer", "trainer", "_fabric"})
"""Attributes that lead from a module to the run that it is part of: the binding is kept, not what is behind it."""
_ALIVE = ("threading", "queue", "multiprocessing", "concurrent", "asyncio", "socket", "subprocess", "logging")
"""Packages of objects that others work on at the same time."""
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, FunctionType, BuiltinFunctionType)


@final
class Kept:
    """The state of modules, data modules and loaders at the time when this is made.

    Kept are bindings and contents: attributes, containers, parameters, buffers and other tensors down to their storage,
    hooks, gradients, training mode, and the states of random generators. Of data sets and loaders everything but the
    data in tensors and arrays is kept.

    Parameters
    ----------
    *roots : object
        What to keep, with everything that is reached from there, except through a ``trainer`` attribute.

    Raises
    ------
    LrscaleError
        When a parameter is not initialised yet, so that there is nothing to come back to.

    Examples
    --------
    >>> layer = torch.nn.Linear(1, 1)
    >>> kept, before = Kept(layer), layer.weight.item()
    >>> _ = layer.weight.data.zero_(), layer.eval()
    >>> kept.restore()
    >>> layer.weight.item() == before, layer.training
    (True, True)
    """

    def __init__(self, *roots: Any) -> None:
        self._seen: dict[int, Any] = {}
        self._undo: list[Callable[[], None]] = []
        for root in roots:
            self._keep(root, DEEPEST, tensors=True)

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for undo in self._undo:
                undo()

    def _keep(self, value: Any, depth: int, *, tensors: bool) -> None:
        if depth == 0 or isinstance(value, _PLAIN) or id(value) in self._seen:
            return
        # Held, so that no other object can come by the same number.
        self._seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            if tensors:
                self._undo.append(_tensor(value))
        elif isinstance(value, np.ndarray):
            if tensors and value.flags.writeable:
                self._undo.append(_array(value))
        elif isinstance(value, dict):
            self._undo.append(_dict(value))
            self._keep_all(value.values(), len(value), depth, tensors)
        elif isinstance(value, (list, deque)):
            self._undo.append(_sequence(value))
            self._keep_all(value, len(value), depth, tensors)
        elif isinstance(value, set):
            self._undo.append(_set(value))
        elif isinstance(value, (tuple, frozenset)):
            self._keep_all(value, len(value), depth, tensors)
        elif isinstance(value, MethodType):
            self._keep(value.__self__, depth - 1, tensors=tensors)
        else:
            self._keep_object(value, depth, tensors)

    def _keep_all(self, values: Iterable[Any], count: int, depth: int, tensors: bool) -> None:
        if count <= LARGE:
            for value in list(values):
                self._keep(value, depth - 1, tensors=tensors)

    def _keep_object(self, value: Any, depth: int, tensors: bool) -> None:
        generator = _generator(value)
        if generator is not None:
            self._undo.append(generator)
            return
        try:
            own = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return
        if not isinstance(own, dict) or _is_trainer(value) or _is_alive(value):
            return
        # Data can be large, and nothing writes to them.
        tensors = tensors and not isinstance(value, (Dataset, DataLoader))
        self._undo.append(_dict(own))
        for name, attribute in list(own.items()):
            if name not in _OUTSIDE:
                self._keep(attribute, depth - 1, tensors=tensors)


def _tensor(tensor: torch.Tensor) -> Callable[[], None]:
    if torch.nn.parameter.is_lazy(tensor):
        raise LrscaleError(
            "a parameter of the module is not initialised yet, so nothing can be put back",
            hint="run one batch through the module first",
        )
    if not tensor.is_leaf:
        # It was computed, and nothing writes to it; which one an attribute names is kept there.
        return _nothing
    if tensor.is_inference():
        contents = tensor.clone()

        def undo_inference() -> None:
            with torch.inference_mode():
                tensor.copy_(contents)

        return undo_inference
    storage = tensor.data
    copy, needs, gradient = storage.clone(), tensor.requires_grad, tensor.grad
    hooks = [
        (name, getattr(tensor, name, None), dict(getattr(tensor, name, None) or {}))
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks")
    ]

    def undo() -> None:
        if tensor.device != storage.device or tensor.dtype != storage.dtype or tensor.shape != storage.shape:
            tensor.data = storage
        elif tensor.data_ptr() != storage.data_ptr() or tensor.stride() != storage.stride():
            tensor.data = storage
        storage.copy_(copy)
        tensor.requires_grad_(needs)
        tensor.grad = gradient
        for name, held, entries in hooks:
            now = getattr(tensor, name, None)
            if now is not held:
                setattr(tensor, name, held)
            if held is not None:
                _refill(held, entries)

    return undo


def _array(array: Any) -> Callable[[], None]:
    copy = array.copy()

    def undo() -> None:
        array[...] = copy

    return undo


def _dict(own: dict[Any, Any]) -> Callable[[], None]:
    entries = dict(own)
    return lambda: _refill(own, entries)


def _refill(own: dict[Any, Any], entries: dict[Any, Any]) -> None:
    # The methods of the base class: those of a subclass may refuse or do more. An ordered one has an order beside.
    base: Any = OrderedDict if isinstance(own, OrderedDict) else dict
    base.clear(own)
    base.update(own, entries)


def _sequence(own: Any) -> Callable[[], None]:
    entries = list(own)

    def undo() -> None:
        own.clear()
        own.extend(entries)

    return undo


def _set(own: set[Any]) -> Callable[[], None]:
    entries = set(own)

    def undo() -> None:
        own.clear()
        own.update(entries)

    return undo


def _generator(value: Any) -> Callable[[], None] | None:
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: _ignore(value.set_state(state))
    if isinstance(value, random.Random):
        course = value.getstate()
        return lambda: value.setstate(course)
    if isinstance(value, np.random.Generator):
        value = value.bit_generator
    if isinstance(value, np.random.BitGenerator):
        bits = value
        kept = bits.state
        return lambda: setattr(bits, "state", kept)
    if isinstance(value, np.random.RandomState):
        own = value
        legacy = own.get_state()
        return lambda: own.set_state(legacy)
    return None


def _ignore(value: Any) -> None:
    del value


def _nothing() -> None:
    return None


def _is_trainer(value: Any) -> bool:
    return any(kind.__name__ == "Trainer" and hasattr(kind, "fit") for kind in type(value).__mro__)


def _is_alive(value: Any) -> bool:
    # Worker processes and pinning threads of a loader that is being read go on while runs are made.
    return isinstance(value, _BaseDataLoaderIter) or type(value).__module__.split(".")[0] in _ALIVE
