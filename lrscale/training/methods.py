"""Methods of one object put in the place of those of its class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def replace_method(owner: Any, name: str, function: Callable[..., Any], *, adds: bool = False) -> None:
    """Put a function in the place of a method, on the instance: the class stays as the user wrote it.

    Lightning asks whether a hook is overridden by looking at the code behind ``__wrapped__``, one level down; so that
    names the original's function, also where a LightningCLI has put a partial there.

    Parameters
    ----------
    owner : object
        A module or data module.
    name : str
        The method.
    function : callable
        Takes the same arguments.
    adds : bool, optional
        Whether the hook counts as overridden even where the user did not. Default False.
    """
    original: Any = None if adds else getattr(owner, name)
    while isinstance(original, functools.partial) or isinstance(getattr(original, "__func__", None), functools.partial):
        original = getattr(original, "__func__", original).func

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    if original is not None:
        functools.update_wrapper(replaced, original)
    # An nn.Module takes a function like any attribute, but its own __setattr__ looks for parameters first.
    object.__setattr__(owner, name, replaced)
