"""Laws of the final loss against model size and training data."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws.base import FloatArray, Parameter
from lrscale.laws.separable import SEPARABLE_LAWS, AbstractSeparableLaw, Inputs

# Published exponents lie between 0.05 (Kaplan et al. 2020, embeddings left out) and 0.6; the bounds leave room.
_LOWEST, _HIGHEST = 0.01, 3.0
_GUESSES = (0.06, 0.15, 0.3, 0.5, 0.8, 1.3)

_FLOOR = Parameter(name="E", lower=0.0, upper=math.inf, unit="loss", meaning="loss without end of scale", linear=True)
_BY_PARAMS = (
    Parameter(
        name="A", lower=0.0, upper=math.inf, unit="loss params^alpha", meaning="cost of a finite model", linear=True
    ),
    Parameter(name="alpha", lower=_LOWEST, upper=_HIGHEST, unit="", meaning="exponent of the model size"),
)
_BY_TOKENS = (
    Parameter(name="B", lower=0.0, upper=math.inf, unit="loss tokens^beta", meaning="cost of finite data", linear=True),
    Parameter(name="beta", lower=_LOWEST, upper=_HIGHEST, unit="", meaning="exponent of the data"),
)
_BY_SIZE = (
    Parameter(
        name="A", lower=0.0, upper=math.inf, unit="loss size^alpha", meaning="cost of a finite size", linear=True
    ),
    Parameter(name="alpha", lower=_LOWEST, upper=_HIGHEST, unit="", meaning="exponent of the size"),
)


def _powers(x: Inputs, names: tuple[str, ...], shape: FloatArray) -> list[FloatArray]:
    """Return ``x^-exponent`` for each name, shape (m, n)."""
    return [np.exp(-shape[:, i, None] * np.log(x[name])) for i, name in enumerate(names)]


@final
@dataclass(frozen=True)
class Chinchilla(AbstractSeparableLaw):
    """``loss = E + A / params^alpha + B / tokens^beta``.

    For a compute budget C = 6 params tokens the best model size grows as C^a with a = beta / (alpha + beta).

    References
    ----------
    .. [1] Hoffmann et al. "Training Compute-Optimal Large Language Models." arXiv:2203.15556 (2022), approach 3.
    .. [2] Besiroglu et al. "Chinchilla Scaling: A replication attempt." arXiv:2404.10102 (2024): E 1.817, A 482,
       alpha 0.348, B 2085, beta 0.366.

    Examples
    --------
    >>> published = [1.817, 482.0, 0.348, 2085.0, 0.366]
    >>> Chinchilla().predict(published, {"params": [70e9], "tokens": [1.4e12]}).round(3)
    array([1.973])
    """

    name: ClassVar[str] = "chinchilla"
    formula: ClassVar[str] = "loss = E + A / params^alpha + B / tokens^beta"
    parameters: ClassVar[tuple[Parameter, ...]] = (_FLOOR, *_BY_PARAMS, *_BY_TOKENS)
    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        return np.stack([np.ones((len(shape), len(x[self.inputs[0]]))), *_powers(x, self.inputs, shape)], axis=2)

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        return np.array(list(itertools.product(_GUESSES, _GUESSES)))


@final
@dataclass(frozen=True)
class PowerSum(AbstractSeparableLaw):
    """``loss = A / params^alpha + B / tokens^beta``: the Chinchilla form without a floor, its simpler rival."""

    name: ClassVar[str] = "power_sum"
    formula: ClassVar[str] = "loss = A / params^alpha + B / tokens^beta"
    parameters: ClassVar[tuple[Parameter, ...]] = (*_BY_PARAMS, *_BY_TOKENS)
    inputs: ClassVar[tuple[str, ...]] = ("params", "tokens")

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        return np.stack(_powers(x, self.inputs, shape), axis=2)

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        return np.array(list(itertools.product(_GUESSES, _GUESSES)))


@final
@dataclass(frozen=True)
class PowerOffset(AbstractSeparableLaw):
    """``loss = E + A / size^alpha``, for one of model size, data and compute while the others are fixed or follow it.

    References
    ----------
    .. [1] Henighan et al. "Scaling Laws for Autoregressive Generative Modeling." arXiv:2010.14701 (2020).

    Examples
    --------
    >>> PowerOffset().predict([2.0, 10.0, 0.5], {"size": [100.0]})
    array([3.])
    """

    name: ClassVar[str] = "power_offset"
    formula: ClassVar[str] = "loss = E + A / size^alpha"
    parameters: ClassVar[tuple[Parameter, ...]] = (_FLOOR, *_BY_SIZE)
    inputs: ClassVar[tuple[str, ...]] = ("size",)

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        return np.stack([np.ones((len(shape), len(x[self.inputs[0]]))), *_powers(x, self.inputs, shape)], axis=2)

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        return np.array(_GUESSES)[:, None]


@final
@dataclass(frozen=True)
class Power(AbstractSeparableLaw):
    """``loss = A / size^alpha``: a straight line in logarithms, the rival of `PowerOffset`."""

    name: ClassVar[str] = "power_decay"
    formula: ClassVar[str] = "loss = A / size^alpha"
    parameters: ClassVar[tuple[Parameter, ...]] = _BY_SIZE
    inputs: ClassVar[tuple[str, ...]] = ("size",)

    @override
    def columns(self, shape: FloatArray, x: Inputs) -> FloatArray:
        return np.stack(_powers(x, self.inputs, shape), axis=2)

    @override
    def first_guesses(self, x: Inputs) -> FloatArray:
        return np.array(_GUESSES)[:, None]


CHINCHILLA = Chinchilla()
POWER_SUM = PowerSum()
POWER_OFFSET = PowerOffset()
POWER_DECAY = Power()
for _law in (CHINCHILLA, POWER_SUM, POWER_OFFSET, POWER_DECAY):
    SEPARABLE_LAWS.register(_law.name)(_law)
