"""Small real models and data sets for the built-in recipes. None needs a network.

Names resolve on first use, so that ``import lrscale.zoo`` loads neither torch nor Lightning, while a recipe can name
``lrscale.zoo.DigitsMLP``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrscale.zoo.byte_gpt import ByteGPT as ByteGPT
    from lrscale.zoo.digits import Digits as Digits
    from lrscale.zoo.digits import DigitsMLP as DigitsMLP
    from lrscale.zoo.python_source import PythonSource as PythonSource

_LAZY = {
    "ByteGPT": "lrscale.zoo.byte_gpt",
    "Digits": "lrscale.zoo.digits",
    "DigitsMLP": "lrscale.zoo.digits",
    "PythonSource": "lrscale.zoo.python_source",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'lrscale.zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
